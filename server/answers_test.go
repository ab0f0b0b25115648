package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// A cutWriter notes that its deadline was set.
type cutWriter struct {
	http.ResponseWriter
	cut      bool
	deadline time.Time
}

func (w *cutWriter) SetWriteDeadline(t time.Time) error {
	w.cut, w.deadline = true, t
	return nil
}

// TestAnswersMax: when answers hold too much, those that have been sent for longest are cut, and no others.
func TestAnswersMax(t *testing.T) {
	const half = answersBytes / 2
	for _, test := range []struct {
		name  string
		sizes []int
		cut   []bool
	}{
		{"as much as there is", []int{half, half}, []bool{false, false}},
		{"more", []int{half, half, lightBytes + 1}, []bool{true, false, false}},
		{"much more", []int{half, half, answersBytes}, []bool{true, true, false}},
		{"one that is more alone", []int{2 * answersBytes}, []bool{false}},
		{"light ones are not counted", []int{lightBytes, answersBytes, lightBytes}, []bool{false, false, false}},
	} {
		var all answers
		var ends []func()
		writers := make([]cutWriter, len(test.sizes))
		for i, size := range test.sizes {
			ends = append(ends, all.begin(size, &writeDeadline{control: http.NewResponseController(&writers[i])}))
		}
		for i, want := range test.cut {
			if writers[i].cut != want {
				t.Errorf("%s: answer %d is cut: %t, want %t", test.name, i, writers[i].cut, want)
			}
		}
		for _, end := range ends {
			end()
		}
		if all.bytes != 0 || len(all.sending) != 0 {
			t.Errorf("%s: %d bytes of %d answers are left", test.name, all.bytes, len(all.sending))
		}
	}
}

// A writerFunc is a ResponseWriter that calls a function for each Write.
type writerFunc struct {
	cutWriter
	write func(p []byte)
}

func (w *writerFunc) Write(p []byte) (int, error) {
	w.write(p)
	return len(p), nil
}

// TestAnswerStaysCut: neither a following piece nor a following Write gives an answer that was cut more time.
func TestAnswerStaysCut(t *testing.T) {
	var all answers
	w := &writerFunc{cutWriter: cutWriter{ResponseWriter: httptest.NewRecorder()}}
	rec := newRecorder(w, &all)
	var other cutWriter
	w.write = func([]byte) {
		w.write = func([]byte) {}
		all.begin(answersBytes, &writeDeadline{control: http.NewResponseController(&other)})
	}
	content := bytes.NewReader(make([]byte, 3*progressBytes))
	if _, err := rec.ReadFrom(content); err != nil || content.Len() > 0 {
		t.Fatalf("%d bytes are left: %v", content.Len(), err)
	}
	if in := time.Until(w.deadline); in > 0 {
		t.Errorf("after more pieces the deadline is in %v", in)
	}
	if _, err := rec.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if in := time.Until(w.deadline); in > 0 || other.cut {
		t.Errorf("after one more Write the deadline is in %v; the other answer is cut: %t", in, other.cut)
	}
}

// TestEmptyAnswerDeadline: who does not read answers without a body cannot hold a connection with them.
func TestEmptyAnswerDeadline(t *testing.T) {
	w := &cutWriter{ResponseWriter: httptest.NewRecorder()}
	newRecorder(w, new(answers)).WriteHeader(http.StatusNoContent)
	if in := time.Until(w.deadline); in <= 0 || in > progressTime {
		t.Errorf("the deadline is in %v, want at most %v", in, progressTime)
	}
}

// TestReceiveManifest: a manifest is received whole, whatever its size; a large one waits for memory, and gives it back.
func TestReceiveManifest(t *testing.T) {
	for _, size := range []int{0, 1, lightBytes - 1, lightBytes, lightBytes + 1, DefaultMaxManifest} {
		for _, known := range []bool{true, false} {
			s := &Server{maxManifest: DefaultMaxManifest, large: semaphore.NewWeighted(largeBytes)}
			sent := bytes.Repeat([]byte("m"), size)
			request := func(ctx context.Context) *http.Request {
				r := httptest.NewRequestWithContext(ctx, http.MethodPut, "/", bytes.NewReader(sent))
				if !known {
					r.ContentLength = -1
					r.Body = io.NopCloser(bytes.NewReader(sent))
				}
				return r
			}
			raw, release, err := s.receiveManifest(httptest.NewRecorder(), request(t.Context()))
			if err != nil || !bytes.Equal(raw, sent) {
				t.Fatalf("%d bytes, length known %t: got %d, %v", size, known, len(raw), err)
			}
			large := size >= lightBytes
			if free := s.large.TryAcquire(largeBytes); free == large {
				t.Errorf("%d bytes: all memory is free: %t", size, free)
			}
			release()
			if large && !s.large.TryAcquire(largeBytes) {
				t.Errorf("%d bytes: the memory is not given back", size)
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if _, _, err := s.receiveManifest(httptest.NewRecorder(), request(gone)); errors.Is(err, context.Canceled) != large {
				t.Errorf("%d bytes without memory: %v", size, err)
			}
		}
	}
}

// A slowPart is some bytes of a body and how long they take to come.
type slowPart struct {
	after time.Duration
	bytes int
}

// A slowBody is the body of a request that comes in parts, and the way to its deadline.
type slowBody struct {
	http.ResponseWriter
	parts    []slowPart
	deadline time.Time
}

func (b *slowBody) SetReadDeadline(t time.Time) error {
	b.deadline = t
	return nil
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		return 0, io.EOF
	}
	part := &b.parts[0]
	if left := time.Until(b.deadline); left < part.after {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(part.after)
	n := min(len(p), part.bytes)
	*part = slowPart{0, part.bytes - n}
	if part.bytes == 0 {
		b.parts = b.parts[1:]
	}
	return n, nil
}

func (b *slowBody) Close() error { return nil }

// TestLargeManifestTime: who waits for memory is not cut for it, does not wait for long, and does not have it for long.
func TestLargeManifestTime(t *testing.T) {
	const late = progressTime - time.Second
	for _, test := range []struct {
		name  string
		parts []slowPart
		free  time.Duration // when there is memory
		err   error
		took  time.Duration
	}{
		{"waits", []slowPart{{late, lightBytes}, {late, 1}}, late + largeWait - 1, nil, late + largeWait - 1 + late},
		{"waits in vain", []slowPart{{late, lightBytes}, {0, 1}}, time.Hour, errLargeTooMany, late + largeWait},
		{"stops", []slowPart{{0, lightBytes}, {time.Hour, 1}}, 0, errTimeout, progressTime},
		{"comes slowly", []slowPart{{0, lightBytes}, {late, progressBytes}, {late, progressBytes}, {late, progressBytes}}, 0, errTimeout, largeWait + largeTime},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{maxManifest: DefaultMaxManifest, large: semaphore.NewWeighted(largeBytes)}
				s.large.TryAcquire(largeBytes)
				time.AfterFunc(test.free, func() { s.large.Release(largeBytes) })
				body := &slowBody{parts: test.parts}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", nil)
				r.Body, r.ContentLength = &requestBody{ReadCloser: body, control: http.NewResponseController(body)}, -1
				start := time.Now()
				_, release, err := s.receiveManifest(httptest.NewRecorder(), r)
				if took := time.Since(start); !errors.Is(err, test.err) || took != test.took {
					t.Fatalf("%v after %v, want %v after %v", err, took, test.err, test.took)
				}
				if err == nil {
					release()
				}
				time.Sleep(time.Hour)
				if !s.large.TryAcquire(largeBytes) {
					t.Error("the memory is not given back")
				}
			})
		})
	}
}
