package server

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzNextPage: a list has a bounded size whatever is asked for, and its Link leads to what it was made of.
func FuzzNextPage(f *testing.F) {
	for _, query := range []string{"", "n=1&last=a", "n=-1", "n=99999999999999999999", "n=", "n=01", "n=1&n=2", "last=%00>;\"", "n=1;last=x"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		n, err := pageSize(query)
		if err != nil {
			if _, _, internal := translate(err); internal {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if n < 0 || n > pageMax || query.Has("n") && strings.Trim(query.Get("n"), "0123456789") != "" {
			t.Fatalf("%q is a page of %d", text, n)
		}
		w := httptest.NewRecorder()
		nextPage(w, "/v2/a/tags/list", query)
		link, ok := strings.CutSuffix(w.Header().Get(headerLink), `>; rel="next"`)
		next, err := url.Parse(strings.TrimPrefix(link, "<"))
		if !ok || err != nil || strings.ContainsAny(link, ">\" \r\n") {
			t.Fatalf("%q leads to %q, %v", text, link, err)
		}
		if got := next.Query(); got.Encode() != query.Encode() || next.Path != "/v2/a/tags/list" || next.Host != "" {
			t.Fatalf("%q leads to %v", text, next)
		}
	})
}

// FuzzRange: ranges of a blob are those of net/http, and what cannot be satisfied is told in the API's JSON.
func FuzzRange(f *testing.F) {
	for _, value := range []string{"", "bytes=0-0", "bytes=-1", "bytes=5-", "bytes=0-1,3-4", "bytes=99-", "bytes=5-1", "chunks=0-1", "bytes=0-0,0-0", "bytes=-0"} {
		f.Add(value)
	}
	content, s := []byte("0123456789"), New(Config{})
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Range", value)
		ours, theirs := httptest.NewRecorder(), httptest.NewRecorder()
		http.ServeContent(theirs, r, "", time.Time{}, bytes.NewReader(content))
		http.ServeContent(&rangeWriter{ResponseWriter: ours, server: s, request: r}, r, "", time.Time{}, bytes.NewReader(content))
		switch {
		case ours.Code != theirs.Code, ours.Header().Get(headerContentRange) != theirs.Header().Get(headerContentRange):
			t.Errorf("%q: %d %v, want %d %v", value, ours.Code, ours.Header(), theirs.Code, theirs.Header())
		case ours.Code == http.StatusRequestedRangeNotSatisfiable:
			(answer{ours.Result(), ours.Body.Bytes()}).codes(t)
		case len(ours.Body.Bytes()) != len(theirs.Body.Bytes()):
			t.Errorf("%q: %q, want %q", value, ours.Body, theirs.Body)
		}
	})
}

// FuzzETags: a list of tags is read as it was written, and no list makes another one of it.
func FuzzETags(f *testing.F) {
	f.Add("sha256:0", "*", `"x", W/"y"`)
	f.Add(",", `W/`, `"`)
	f.Fuzz(func(t *testing.T, a, b, any string) {
		if strings.ContainsAny(a+b, "\",") || strings.TrimSpace(a) != a || strings.TrimSpace(b) != b {
			return
		}
		want := []string{a, b}
		if got := etagList([]string{`"` + a + `" , W/"` + b + `"`}); !slices.Equal(got, want) {
			t.Fatalf("%q and %q are read %q", a, b, got)
		}
		for _, etag := range etagList([]string{any}) {
			if strings.Contains(etag, ",") {
				t.Fatalf("%q has the tag %q", any, etag)
			}
		}
	})
}
