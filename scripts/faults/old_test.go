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

// longAgo is enough for a collection without keep times, which leaves what is younger than an hour.
const longAgo = 3 * time.Hour

// fillLongAgo makes a store in dir and lets fill push to it, as if long ago.
func fillLongAgo(t *testing.T, dir string, fill func(c *process.Client)) {
	t.Helper()
	then := time.Now().Add(-longAgo)
	st, err := store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, Create: true, Now: func() time.Time { return then }})
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(server.New(server.Config{Store: st, Guard: auth.New(auth.Options{Store: st})}))
	c := process.NewClient(served.URL)
	fill(c)
	c.Close()
	served.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
