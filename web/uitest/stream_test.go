package uitest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// slowly stands before a server and sends each page in pieces, as slow networks and busy machines do: what is drawn of
// the first must stay where it is when the others come.
func slowly(t *testing.T, s *site) *httptest.Server {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequestWithContext(r.Context(), r.Method, strings.Replace(s.client.URL, "127.0.0.1", "localhost", 1)+r.URL.RequestURI(), r.Body)
		if err != nil {
			panic(err)
		}
		request.Header.Set("Accept-Encoding", "gzip")
		answer, err := client.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		var body io.Reader = answer.Body
		if answer.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(answer.Body); err != nil {
				panic(err)
			}
		}
		var all bytes.Buffer
		if _, err := all.ReadFrom(body); err != nil {
			panic(err)
		}
		for _, name := range []string{"Content-Type", "Content-Security-Policy", "Location"} {
			w.Header().Set(name, answer.Header.Get(name))
		}
		w.WriteHeader(answer.StatusCode)
		const pieces = 4
		b := all.Bytes()
		for i := range pieces {
			_, _ = w.Write(b[len(b)*i/pieces : len(b)*(i+1)/pieces])
			if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
				continue
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(80 * time.Millisecond)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(client.CloseIdleConnections)
	return server
}

// testSlowly looks for layout shifts while pages arrive in pieces.
func testSlowly(t *testing.T, w *world) {
	server := slowly(t, w.stock.site)
	b := newTab(t, w.browser, strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	for _, width := range []int64{1280, 360} {
		b.view(width, "light")
		for _, path := range []string{"/", "/team/api", "/many/tags", "/team/web:2.0", "/team/web/-/manifests", "/team/web/-/history", "/big/config:1", "/-/storage", "/-/storage/gc", "/-/help", "/team/web:2.0/-/raw"} {
			b.forget()
			b.open(path)
			report(t, path, b.noted(http.StatusOK))
		}
	}
}
