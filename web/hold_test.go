package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A slowWriter is a client that does not take its answer until it may.
type slowWriter struct {
	*httptest.ResponseRecorder
	writes chan struct{} // closed when it is answered
	may    chan struct{}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	close(w.writes)
	<-w.may
	return w.ResponseRecorder.Write(b)
}

// TestSlowClients: who takes an answer slowly holds nobody up.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	for _, tt := range []struct{ method, path, form string }{
		{http.MethodGet, "/-/search?q=team", ""},
		{http.MethodGet, "/team/api:1.0/-/layers", ""},
		{http.MethodGet, "/-/admin/users", ""},
		{http.MethodPost, "/-/admin/users", "name=!&password=x"},
		{http.MethodPost, "/-/tokens", "description=slow&repositories=**&actions=pull"},
	} {
		w := &slowWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
		done := make(chan struct{})
		path, query, _ := strings.Cut(tt.path, "?")
		r := httptest.NewRequest(tt.method, s.url+"/", strings.NewReader(tt.form))
		r.RequestURI, r.URL = tt.path, &url.URL{Path: path, RawQuery: query}
		r.Host, r.RemoteAddr = strings.TrimPrefix(s.url, "http://"), "127.0.0.1:1234"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.AddCookie(s.session(admin))
		go func() {
			s.ServeHTTP(w, r)
			close(done)
		}()
		<-w.writes
		wants(t, "a search beside "+tt.path, s.get(admin, "/-/search?q=api"), 200)
		wants(t, "users beside "+tt.path, s.post(admin, "/-/admin/users", "name", "!"), 422)
		close(w.may)
		<-done
	}
}
