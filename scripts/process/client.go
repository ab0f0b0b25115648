package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Client sends requests to one server.
type Client struct {
	URL  string
	HTTP *http.Client
}

// NewClient returns a client with connections of its own, so that one that a killed server left is never used again.
func NewClient(url string) *Client {
	return &Client{URL: url, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: time.Minute}}
}

// NewAdminClient returns a client of the admin socket of the server that owns a directory.
func NewAdminClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "cubby.sock"))
	}
	return &Client{URL: "http://cubby", HTTP: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}}
}

// Close drops the connections that are not in use.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// An Answer is a whole response.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request, with headers given as key and value by turns. An answer of any status is no error.
func (c *Client) Do(method, path string, body []byte, headers ...string) (Answer, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	return c.send(method, path, r, headers)
}

func (c *Client) send(method, path string, body io.Reader, headers []string) (Answer, error) {
	request, err := http.NewRequest(method, c.URL+path, body)
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	// Room for all of it at once: growing buffers are most of the cost under the race detector.
	var b bytes.Buffer
	b.Grow(int(max(response.ContentLength, 0)) + bytes.MinRead)
	_, err = b.ReadFrom(response.Body)
	return Answer{response.StatusCode, response.Header, b.Bytes()}, err
}

// Ask sends a request that may be answered with any of the statuses. Another is an error.
func (c *Client) Ask(method, path string, body []byte, headers []string, statuses ...int) (Answer, error) {
	answer, err := c.Do(method, path, body, headers...)
	if err == nil && !slices.Contains(statuses, answer.Status) {
		err = fmt.Errorf("%s %s: status %d, want one of %v: %s", method, path, answer.Status, statuses, answer.Body)
	}
	return answer, err
}

// Want sends a request and fails the test unless it is answered with the status.
func (c *Client) Want(t *testing.T, status int, method, path string, body []byte, headers ...string) Answer {
	t.Helper()
	answer, err := c.Do(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if answer.Status != status {
		t.Fatalf("%s %s: status %d, want %d\n%s", method, path, answer.Status, status, answer.Body)
	}
	return answer
}

// PushBlob pushes a blob in one POST.
func (c *Client) PushBlob(t *testing.T, name string, blob Content) {
	t.Helper()
	c.Want(t, http.StatusCreated, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+blob.Digest, blob.Raw)
}

// PushManifest pushes a manifest by digest and points tags to it.
func (c *Client) PushManifest(t *testing.T, name string, m Content, tags ...string) {
	t.Helper()
	path := "/v2/" + name + "/manifests/" + m.Digest
	if len(tags) > 0 {
		path += "?" + url.Values{"tag": tags}.Encode()
	}
	c.Want(t, http.StatusCreated, http.MethodPut, path, m.Raw, "Content-Type", m.MediaType)
}

// WantContent fails the test unless a reference is served with exactly the content.
func (c *Client) WantContent(t *testing.T, name, ref string, want Content) {
	t.Helper()
	kind := "blobs"
	if want.MediaType != "" {
		kind = "manifests"
	}
	answer := c.Want(t, http.StatusOK, http.MethodGet, "/v2/"+name+"/"+kind+"/"+ref, nil)
	if !bytes.Equal(answer.Body, want.Raw) || answer.Header.Get("Docker-Content-Digest") != want.Digest {
		t.Errorf("%s %s: got %d bytes with digest %s, want %d with %s", name, ref, len(answer.Body), Digest(answer.Body), len(want.Raw), want.Digest)
	}
	if got := answer.Header.Get("Content-Type"); want.MediaType != "" && got != want.MediaType {
		t.Errorf("%s %s: Content-Type %s, want %s", name, ref, got, want.MediaType)
	}
}

// StartUpload opens an upload session and returns its location.
func (c *Client) StartUpload(t *testing.T, name string) string {
	t.Helper()
	return c.Want(t, http.StatusAccepted, http.MethodPost, "/v2/"+name+"/blobs/uploads/", []byte{}).Header.Get("Location")
}

// WithDigest adds the digest of a blob to the location of its upload session, which may have a query (end-6).
func WithDigest(location, dgst string) string {
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=" + dgst
}

// Received returns how many bytes an upload session says it has.
func (c *Client) Received(t *testing.T, location string) int64 {
	t.Helper()
	answer := c.Want(t, http.StatusNoContent, http.MethodGet, location, nil)
	var last int64
	if _, err := fmt.Sscanf(answer.Header.Get("Range"), "0-%d", &last); err != nil {
		t.Fatalf("Range of %s is %q", location, answer.Header.Get("Range"))
	}
	return last + 1
}
