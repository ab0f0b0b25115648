//go:build faults

package main

import (
	"net/http/httptest"
	"testing"
	"time"

	"cubby/scripts/process"
	"cubby/server"
	"cubby/server/auth"
	"cubby/store"
)

// fillLongAgo makes a store in dir and lets fill push to it, as if three days ago: what collection may remove it need not
// wait for.
func fillLongAgo(t *testing.T, dir string, fill func(c *process.Client)) {
	t.Helper()
	now := func() time.Time { return time.Now().Add(-72 * time.Hour) }
	st, err := store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, Create: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(server.New(server.Config{Store: st, Guard: auth.New(auth.Options{Store: st})}))
	fill(process.NewClient(served.URL))
	served.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
