package process

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// stream returns content that needs no memory, the same for the same seed.
func stream(seed byte, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed, 1}), size)
}

// must sends a request with a body of unknown length. Another status than want is an error.
func (c *Client) must(want int, method, path string, body io.Reader) (Answer, error) {
	answer, err := c.send(method, path, body, nil)
	if err == nil && answer.Status != want {
		err = &answerError{method + " " + path, answer, want}
	}
	return answer, err
}

// PushStream pushes a blob of random content without holding it, and returns its digest.
func (c *Client) PushStream(name string, seed byte, size int64) (dgst string, err error) {
	answer, err := c.must(http.StatusAccepted, http.MethodPost, "/v2/"+name+"/blobs/uploads/", nil)
	if err != nil {
		return "", err
	}
	h, location := sha256.New(), answer.Header.Get("Location")
	if _, err := c.must(http.StatusAccepted, http.MethodPatch, location, io.TeeReader(stream(seed, size), h)); err != nil {
		return "", err
	}
	dgst = "sha256:" + hex.EncodeToString(h.Sum(nil))
	_, err = c.must(http.StatusCreated, http.MethodPut, location+"?digest="+dgst, nil)
	return dgst, err
}

// PullStream fetches a blob and compares it with its size and digest.
func (c *Client) PullStream(name, dgst string, size int64) error {
	response, err := c.HTTP.Get(c.URL + "/v2/" + name + "/blobs/" + dgst)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, response.Body)
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); err == nil && (n != size || got != dgst) {
		err = fmt.Errorf("got %d bytes with digest %s, want %d with %s", n, got, size, dgst)
	}
	return err
}

// A SlowUpload is a PATCH that has sent the first part of its body.
type SlowUpload struct {
	Location string

	feed     *io.PipeWriter
	answered chan error // gets nil for a 202
}

// StartSlowUpload returns when the server has received most of first.
func (c *Client) StartSlowUpload(t *testing.T, name string, first []byte) *SlowUpload {
	t.Helper()
	body, feed := io.Pipe()
	u := &SlowUpload{Location: c.StartUpload(t, name), feed: feed, answered: make(chan error, 1)}
	t.Cleanup(func() { feed.Close() })
	go func() {
		_, err := NewClient(c.URL).must(http.StatusAccepted, http.MethodPatch, u.Location, body)
		u.answered <- err
	}()
	if _, err := feed.Write(first); err != nil {
		t.Fatal(err)
	}
	Poll(t, 10*time.Second, "the first part of an upload", func() bool { return c.Received(t, u.Location) > int64(len(first)/2) })
	return u
}

// Finish sends the rest and returns how the upload was answered: nil for a 202.
func (u *SlowUpload) Finish(t *testing.T, rest []byte) error {
	t.Helper()
	_, _ = u.feed.Write(rest) // it fails when the server has answered already
	u.feed.Close()
	return u.wait(t)
}

// Cut returns how the upload was answered without its rest, when the server is gone.
func (u *SlowUpload) Cut(t *testing.T) error {
	t.Helper()
	u.feed.CloseWithError(io.ErrUnexpectedEOF) // until then the client waits for more to send
	return u.wait(t)
}

func (u *SlowUpload) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-u.answered:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("an upload was not answered and not cut")
		return nil
	}
}
