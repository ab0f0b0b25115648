//go:build faults

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cubby/scripts/process"
)

// flood sends requests with so many workers until ctx is done. An answer of the server's own failure is an error, and so
// is when none has the status want, unless that is 0: then it was no attack.
func flood(ctx context.Context, v *victim, workers, want int, send func(c *process.Client, worker, n int) (process.Answer, error)) error {
	var running sync.WaitGroup
	var failed atomic.Pointer[string]
	var met atomic.Bool
	for worker := range workers {
		running.Go(func() {
			c := process.NewClient(v.s.URL)
			defer c.Close()
			c.HTTP.Transport = until{ctx, c.HTTP.Transport}
			for n := 0; ctx.Err() == nil; n++ {
				answer, err := send(c, worker, n)
				if err == nil && answer.Status == want {
					met.Store(true)
				}
				if err == nil && answer.Status >= 500 && answer.Status != http.StatusServiceUnavailable {
					failed.Store(new(fmt.Sprintf("status %d: %s", answer.Status, answer.Body)))
				}
			}
		})
	}
	running.Wait()
	if text := failed.Load(); text != nil {
		return fmt.Errorf("an attack was answered with %s", *text)
	}
	if want != 0 && !met.Load() {
		return fmt.Errorf("no attack was answered with status %d", want)
	}
	return nil
}

// An until ends all requests with a context.
type until struct {
	ctx context.Context
	http.RoundTripper
}

func (u until) RoundTrip(r *http.Request) (*http.Response, error) {
	return u.RoundTripper.RoundTrip(r.WithContext(u.ctx))
}

// CloseIdleConnections is what Client.Close calls.
func (u until) CloseIdleConnections() { u.RoundTripper.(*http.Transport).CloseIdleConnections() }

// hugePages asks for pages of more than there is.
func hugePages(ctx context.Context, v *victim) error {
	paths := []string{"/v2/_catalog", "/v2/team/large/tags/list"}
	sizes := []string{"9223372036854775808", "9223372036854775807", "-1", "2147483648", "18446744073709551616", "1e18", strings.Repeat("9", 4000)}
	return flood(ctx, v, 16, http.StatusOK, func(c *process.Client, worker, n int) (process.Answer, error) {
		return c.Do(http.MethodGet, paths[n%len(paths)]+"?n="+sizes[(worker+n)%len(sizes)], nil, login...)
	})
}

const manifestMax = 4 << 20

// largeManifest returns an image of the largest size that is taken, by an annotation.
func largeManifest(image process.Content) process.Content {
	head := strings.TrimSuffix(string(image.Raw), "}") + `, "annotations": {"a": "`
	raw := []byte(head + strings.Repeat("a", manifestMax-len(head)-len(`"}}`)) + `"}}`)
	return process.Content{Digest: process.Digest(raw), MediaType: image.MediaType, Raw: raw, Names: image.Names}
}

func pushLargeManifest(t *testing.T, c *process.Client) (path string) {
	t.Helper()
	image := c.PushImage(t, "team/manifest", nil, process.RandomBlob(13, 100))
	c.PushManifest(t, "team/manifest", largeManifest(image), "large")
	return "/v2/team/manifest/manifests/large"
}

// largeManifests are pushed by many at once. They wait for each other, so a short attack may end before the first answer.
func largeManifests(ctx context.Context, v *victim) error {
	m := largeManifest(v.image)
	return flood(ctx, v, 100, 0, func(c *process.Client, _, _ int) (process.Answer, error) {
		return c.Do(http.MethodPut, "/v2/"+victimName+"/manifests/large", m.Raw, append([]string{"Content-Type", m.MediaType}, login...)...)
	})
}

// deepManifests are arrays in arrays, a million deep.
func deepManifests(ctx context.Context, v *victim) error {
	deep := []byte(`{"schemaVersion": 2, "layers": ` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}")
	return flood(ctx, v, 16, http.StatusBadRequest, func(c *process.Client, _, _ int) (process.Answer, error) {
		return c.Do(http.MethodPut, "/v2/"+victimName+"/manifests/deep", deep, append([]string{"Content-Type", v.image.MediaType}, login...)...)
	})
}

// openUploads opens sessions, each with a few bytes, and leaves them.
func openUploads(ctx context.Context, v *victim) error {
	return flood(ctx, v, 32, http.StatusAccepted, func(c *process.Client, _, n int) (process.Answer, error) {
		answer, err := c.Do(http.MethodPost, "/v2/team/uploads/blobs/uploads/", []byte{}, login...)
		if location := answer.Header.Get("Location"); err == nil && n%4 == 0 && location != "" {
			return c.Do(http.MethodPatch, location, []byte("some"), login...)
		}
		return answer, err
	})
}

// wrongPasswords are tried for the user that pulls, and for others.
func wrongPasswords(ctx context.Context, v *victim) error {
	return flood(ctx, v, 32, http.StatusUnauthorized, func(c *process.Client, worker, n int) (process.Answer, error) {
		user := "alice"
		if worker%2 == 0 {
			user = fmt.Sprint("user", worker, "-", n)
		}
		request := must(http.NewRequestWithContext(ctx, http.MethodGet, v.s.URL+"/v2/", nil))
		request.SetBasicAuth(user, fmt.Sprint("wrong", n))
		return c.Do(http.MethodGet, "/v2/", nil, "Authorization", request.Header.Get("Authorization"))
	})
}

// resets begins requests by HTTP/2 and takes each back at once.
func resets(ctx context.Context, v *victim) error {
	var running sync.WaitGroup
	var sent atomic.Int64
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				// The server may end a connection that does this.
				_ = resetMany(ctx, v, &sent)
			}
		})
	}
	running.Wait()
	if sent.Load() < 1000 {
		return fmt.Errorf("only %d requests were begun and taken back", sent.Load())
	}
	return nil
}

func resetMany(ctx context.Context, v *victim, sent *atomic.Int64) error {
	c, err := tls.Dial("tcp", strings.TrimPrefix(v.s.URL, "http://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http2.NextProtoTLS}})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		return err
	}
	go func() {
		for err := error(nil); err == nil; {
			_, err = f.ReadFrame()
		}
	}()
	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for id := uint32(1); ctx.Err() == nil && id < 1<<30; id += 2 {
		header.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "127.0.0.1"}, {":path", v.large[0]}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header.Bytes(), EndStream: true, EndHeaders: true})
		if err == nil {
			err = f.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			return err
		}
		sent.Add(1)
	}
	return nil
}

const bombCount = 8

// pushBombs pushes images whose layers are 10 MB of what becomes 10 GB, as few large files and as many empty ones.
func pushBombs(t *testing.T, c *process.Client) {
	t.Helper()
	large, empty := member(t, tarFile(1<<26)), member(t, bytes.Repeat(tarFile(0), 1<<16))
	for i := range bombCount {
		part := large
		if i%2 == 1 {
			part = empty
		}
		// The first member is another in each, so that each is looked into.
		raw := append(member(t, tarFile(i+1)), bytes.Repeat(part, 10_000_000/len(part))...)
		config := process.Blob([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`))
		c.PushImage(t, "team/bomb", []string{fmt.Sprint("v", i)}, config, process.Blob(raw))
	}
}

// tarFile returns a file of zeros as tar has it, without the end of an archive.
func tarFile(size int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// Writing to memory does not fail.
	_ = w.WriteHeader(&tar.Header{Name: "file", Size: int64(size), Mode: 0o644, Typeflag: tar.TypeReg})
	_, _ = w.Write(make([]byte, size))
	_ = w.Flush()
	return b.Bytes()
}

// member returns raw as gzip has it: members one after another are what they hold one after another.
func member(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bombs are looked into by many.
func bombs(ctx context.Context, v *victim) error {
	return flood(ctx, v, 16, http.StatusOK, func(c *process.Client, worker, n int) (process.Answer, error) {
		return c.Do(http.MethodGet, fmt.Sprintf("/team/bomb:v%d/-/files", (worker+n)%bombCount), nil)
	})
}
