package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"cubby/server/auth"
)

const (
	// progressTime is how long a connection may move less than progressBytes: 35 KiB/s, slower than any real client.
	progressTime  = 30 * time.Second
	progressBytes = 1 << 20
)

// A recorder is a ResponseWriter that remembers what was sent. It keeps the way to the kernel's sendfile open.
type recorder struct {
	http.ResponseWriter
	control  *http.ResponseController
	deadline writeDeadline
	answers  *answers // of the server
	status   int
	bytes    int64
	who      *auth.Principal // nil until it is known, and where nobody asks
	body     *requestBody    // nil when the request has none
}

func newRecorder(w http.ResponseWriter, all *answers) *recorder {
	r := &recorder{ResponseWriter: w, control: http.NewResponseController(w), answers: all}
	r.deadline.control = r.control
	// That of the connection's last answer, which net/http was still to flush.
	_ = r.control.SetWriteDeadline(time.Time{})
	return r
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		if status >= http.StatusBadRequest && r.body != nil && r.body.large && !r.body.ended {
			// Or net/http would read of the body before it sends the answer.
			r.body.lingers = r.control.EnableFullDuplex() == nil
			r.Header().Set(headerConnection, "close") // what is left of the body must not be taken for a request
		}
		if r.body != nil && r.body.expects && !r.body.ended {
			r.Header().Set(headerConnection, "close") // its client may send it or not
		}
	}
	// An answer without a body is flushed when the handler has returned; who does not read it must not hold it for ever.
	r.deadline.move(progressTime)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	r.deadline.move(progressTime * time.Duration(1+len(p)/progressBytes))
	defer r.answers.begin(len(p), &r.deadline)()
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom sends a file in pieces, each with a deadline of its own. The pieces are limited readers directly over the
// source, which is the form that net/http hands to sendfile.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	if held, ok := limited.R.(*bytes.Reader); ok {
		defer r.answers.begin(int(held.Size()), &r.deadline)()
	}
	var total int64
	for limited.N > 0 {
		want := min(limited.N, progressBytes)
		r.deadline.move(progressTime) // a reader that stopped cannot hold the connection open
		n, err := io.Copy(r.ResponseWriter, &io.LimitedReader{R: limited.R, N: want})
		total += n
		r.bytes += n
		limited.N -= n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// A requestBody gives up on a body that does not move. Without a deadline a body that never comes would hold its
// connection for ever, also where no handler reads it: net/http drains what is left before it answers.
type requestBody struct {
	io.ReadCloser
	control *http.ResponseController
	left    int       // bytes until the deadline is moved
	until   time.Time // what the deadline is never moved behind, unless zero
	large   bool      // net/http would close the connection rather than read what is left of it; not in HTTP/2, where it ends a stream
	expects bool      // its client waits to be told to send it; not in HTTP/2
	began   bool
	ended   bool
	lingers bool // the request was refused before its body had ended

	lingering chan struct{} // of the server
}

// largeBody is what net/http reads of a body that its handler left, in bytes.
const largeBody = 256 << 10

// lingerTime is how long a refused request may go on to send a large body. A connection that is closed while its client sends is
// reset, and the answer may be lost with it: the client takes that for an accident and tries again.
const lingerTime = 5 * time.Second

// lingerMax bounds the requests that linger at a time: each holds a connection. Others are left to net/http, which half-closes.
const lingerMax = 64

// linger sends the answer and reads on. A client that waits to be told to send the body gets no answer later.
func (b *requestBody) linger() {
	if !b.lingers || b.expects && !b.began {
		return
	}
	select {
	case b.lingering <- struct{}{}:
		defer func() { <-b.lingering }()
	default:
		return
	}
	if b.control.Flush() != nil {
		return
	}
	_ = b.control.SetReadDeadline(time.Now().Add(lingerTime))
	_, err := io.Copy(io.Discard, b.ReadCloser)
	b.ended = err == nil
}

// drainTime is how long net/http may wait for what a handler left unread.
const drainTime = time.Second

// limitBody puts a requestBody in place of the request's body. finish is called after the handler.
func limitBody(w *recorder, r *http.Request, lingering chan struct{}) (finish func()) {
	if r.Body == nil || r.Body == http.NoBody {
		return func() {}
	}
	body := &requestBody{ReadCloser: r.Body, control: w.control, lingering: lingering}
	body.large = r.ProtoMajor == 1 && (r.ContentLength < 0 || r.ContentLength > largeBody)
	body.expects = r.ProtoMajor == 1 && r.Header.Get("Expect") != ""
	r.Body, w.body = body, body
	// Also when nobody reads it: net/http drains a body before it sends a large answer.
	first := progressTime
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		first = drainTime // no such request has a body that anybody reads
	}
	_ = body.control.SetReadDeadline(time.Now().Add(first))
	return func() {
		body.linger()
		r.Body = body.ReadCloser // net/http half-closes only a connection on whose request it finds its own
		if !body.ended {
			_ = body.control.SetReadDeadline(time.Now().Add(drainTime))
		}
	}
}

// allow gives the rest of a body so much time in all. It need not move while its handler waits for something else.
func (b *requestBody) allow(in time.Duration) {
	if !b.ended {
		b.left, b.until = 0, time.Now().Add(in)
		_ = b.control.SetReadDeadline(b.until)
	}
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.began = true
	if b.left <= 0 && !b.ended {
		deadline := time.Now().Add(progressTime)
		if !b.until.IsZero() && b.until.Before(deadline) {
			deadline = b.until
		}
		_ = b.control.SetReadDeadline(deadline)
		b.left = progressBytes
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return n, errTimeout
	}
	if errors.Is(err, io.EOF) && !b.ended {
		// A deadline that is still set when the body has been read would end the request later.
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// logRequest writes one line for a request: health checks at debug, what clients ask for at info. Credentials are in no
// field: the query is logged only where the API defines it.
func (s *Server) logRequest(rec *recorder, r *http.Request, d time.Duration, panicked any) {
	level := slog.LevelInfo
	if strings.HasPrefix(r.URL.Path, "/-/") && r.URL.Path != tokenPath && !s.isPage(r.URL.Path) {
		level = slog.LevelDebug
	}
	ctx := context.WithoutCancel(r.Context())
	if panicked != nil && panicked != http.ErrAbortHandler {
		s.log.ErrorContext(ctx, "handler panicked", "path", r.URL.Path, "err", panicked)
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", rec.status),
		slog.Int64("bytes", rec.bytes), slog.String("dur", d.Round(time.Microsecond).String()), slog.String("addr", s.guard.Address(r)),
		slog.String("client", r.UserAgent()),
	}
	if rec.who != nil && rec.who.Known() {
		attrs = append(attrs, slog.String("user", rec.who.Name))
	}
	if r.URL.RawQuery != "" && strings.HasPrefix(r.URL.Path, "/v2/") {
		attrs = append(attrs, slog.String("query", r.URL.RawQuery))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// A LogBuffer collects log lines and writes them together, at most a quarter of a second late: a write(2) for each
// request costs more than serving some of them. Close writes what is left.
type LogBuffer struct {
	mu sync.Mutex
	w  *bufio.Writer // guarded by mu

	stop    chan struct{}
	stopped sync.WaitGroup
}

// NewLogBuffer returns a buffer in front of w.
func NewLogBuffer(w io.Writer) *LogBuffer {
	b := &LogBuffer{w: bufio.NewWriterSize(w, 64<<10), stop: make(chan struct{})}
	b.stopped.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-b.stop:
				return
			case <-tick.C:
				_ = b.Flush()
			}
		}
	})
	return b
}

// Write takes over one or more whole lines.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Write(p)
}

// Flush writes what is buffered.
func (b *LogBuffer) Flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Flush()
}

// Close stops the timer and writes what is left.
func (b *LogBuffer) Close() error {
	close(b.stop)
	b.stopped.Wait()
	return b.Flush()
}
