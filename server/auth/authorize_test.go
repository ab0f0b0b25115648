package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"cubby/store/oci"
)

// TestDefaultDeny: an action that nobody thought of is refused, also to this machine while nobody can log in.
func TestDefaultDeny(t *testing.T) {
	g := newGuard(t, Options{})
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost:5000"
	p, err := g.Identify(r)
	if err != nil {
		t.Fatal(err)
	}
	name, err := oci.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Authorize(p, Delete, name); err != nil {
		t.Errorf("delete: %v", err)
	}
	for _, action := range []Action{0, Delete + 1} {
		if err := g.Authorize(p, action, name); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("action %d: %v, want ErrUnauthorized", int(action), err)
		}
	}
}
