package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store"
)

// admin asks the admin handler and returns its events.
func (r *registry) admin(method, path string, params ...string) (events []Event, err error) {
	r.t.Helper()
	query := url.Values{}
	for i := 0; i < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	w := httptest.NewRecorder()
	Admin(r.store, nil).ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), method, path+"?"+query.Encode(), nil))
	err = readEvents(w.Body, func(e Event) error {
		events = append(events, e)
		return nil
	})
	return events, err
}

// TestAdminHistory: what the commands history, undo and restore ask for, over tags that clients moved.
func TestAdminHistory(t *testing.T) {
	r := newRegistry(t)
	one, two := sum(r.pushImage("a/b", "x", "1", "")), sum(r.pushImage("a/b", "x", "2", ""))
	r.want(http.StatusAccepted, "", "DELETE", "/v2/a/b/manifests/x", nil)
	r.pushImage("a/b", "y", "1", "")

	history := func(params ...string) (lines []string) {
		t.Helper()
		events, err := r.admin("GET", "/history", params...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			lines = append(lines, fmt.Sprintf("%s#%d %s>%s", e.Move.Tag, e.Move.Number, e.Move.From, e.Move.To))
		}
		return lines
	}
	want := []string{fmt.Sprintf("x#3 %s>", two), fmt.Sprintf("x#2 %s>%s", one, two), fmt.Sprintf("x#1 >%s", one)}
	if got := history("repo", "a/b", "tag", "x"); !slices.Equal(got, want) {
		t.Errorf("history of the tag %q, want %q", got, want)
	}
	if got, want := history("repo", "a/b"), append([]string{fmt.Sprintf("y#1 >%s", one)}, want...); !slices.Equal(got, want) {
		t.Errorf("history of the repository %q, want %q", got, want)
	}

	move := func(path string, params ...string) *store.TagMove {
		t.Helper()
		events, err := r.admin("POST", path, append([]string{"repo", "a/b", "tag", "x"}, params...)...)
		if err != nil || len(events) != 1 || events[0].Move == nil {
			t.Fatalf("%s %q: %+v, %v", path, params, events, err)
		}
		return events[0].Move
	}
	pulls := func(want string) {
		t.Helper()
		if got := sum(r.want(http.StatusOK, "", "GET", "/v2/a/b/manifests/x", nil).body).String(); got != want {
			t.Errorf("x pulls %s, want %s", got, want)
		}
	}
	if m := move("/undo"); m.From != "" || m.To != two || m.Undoes != 3 || m.Who != "admin" {
		t.Errorf("undo: %+v", m)
	}
	pulls(two.String())
	if m := move("/restore", "to", "#1"); m.From != two || m.To != one || m.Undoes != 0 {
		t.Errorf("restore: %+v", m)
	}
	pulls(one.String())
	move("/restore", "at", time.Now().Add(time.Hour).Format(time.RFC3339)) // where it is
	move("/restore", "to", two.String())
	pulls(two.String())

	r.want(http.StatusAccepted, "", "DELETE", "/v2/a/b/manifests/"+two.String(), nil)
	for _, tt := range []struct {
		path, params, want string
	}{
		{"/undo", "repo=a/b&tag=x", "content deleted at "},
		{"/undo", "repo=a/b&tag=x", "may still be there for `cubby restore`"},
		{"/restore", "repo=a/b&tag=x&to=2", "by anonymous (127.0.0.1)"},
		{"/restore", "repo=a/b&tag=x&to=99", "no entry #99"},
		{"/restore", "repo=a/b&tag=x&at=2001-01-01T00:00:00Z", "no such tag at 2001-01-01"},
		{"/restore", "repo=a/b&tag=x&at=yesterday", "parameter invalid"},
		{"/restore", "repo=a/b&tag=x", "is neither a digest"},
		{"/undo", "repo=a/b&tag=never", "nothing is left to undo"},
		{"/undo", "repo=a/b", "tag"},
		{"/undo", "repo=never&tag=x", "no repository never here"},
	} {
		query, err := url.ParseQuery(tt.params)
		if err != nil {
			t.Fatal(err)
		}
		var params []string
		for k := range query {
			params = append(params, k, query.Get(k))
		}
		_, err = r.admin("POST", tt.path, params...)
		failed, ok := errors.AsType[*CommandError](err)
		if !ok || !failed.Refused || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s?%s: %v, want a refusal with %q", tt.path, tt.params, err, tt.want)
		}
	}
}

func TestAdminDiskUse(t *testing.T) {
	r := newRegistry(t)
	shared := r.pushBlob("a", []byte("0123456789"))
	r.pushBlob("a", []byte("only here"))
	r.want(http.StatusCreated, "", "POST", "/v2/b/blobs/uploads/?from=a&mount="+shared.String(), nil)
	events, err := r.admin("GET", "/du")
	if err != nil || len(events) != 3 {
		t.Fatalf("%+v, %v", events, err)
	}
	if u := events[0].DiskUse; u == nil || u.Blobs != 19 || u.Saved != 10 || u.Disk != 19+u.Database || u.Database == 0 {
		t.Errorf("total %+v", u)
	}
	a, b := RepositoryUseItem{"a", 19, 9}, RepositoryUseItem{"b", 10, 0}
	if *events[1].RepositoryUse != a || *events[2].RepositoryUse != b {
		t.Errorf("repositories %+v, %+v", events[1].RepositoryUse, events[2].RepositoryUse)
	}
	events, err = r.admin("GET", "/du", "repo", "b")
	if err != nil || len(events) != 1 || *events[0].RepositoryUse != b {
		t.Errorf("one repository: %+v, %v", events, err)
	}
	if _, err := r.admin("GET", "/du", "repo", "c"); err == nil || !strings.Contains(err.Error(), "no repository c") {
		t.Errorf("no repository: %v", err)
	}
}
