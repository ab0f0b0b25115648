package store

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func sessionID(s string) SessionID { return sha256.Sum256([]byte(s)) }

// testSession returns a session that began at a second and lasts for an hour.
func testSession(id, user string, userID, began int64) Session {
	return Session{ID: sessionID(id), User: user, UserID: userID, Password: sha256.Sum256([]byte("hash")), CreatedAt: time.Unix(began, 0),
		ExpiresAt: time.Unix(began+3600, 0), Address: "192.0.2.1", Client: "Firefox"}
}

func addSession(t *testing.T, s *Store, v Session, before ...SessionID) {
	t.Helper()
	if err := s.AddSession(v, before...); err != nil {
		t.Fatal(err)
	}
}

// wantSessions compares the sessions that are in force, the oldest first.
func wantSessions(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	got := s.Access().sessions(func(*Session) bool { return true })
	same := len(got) == len(ids)
	for i := range ids {
		same = same && got[i].ID == sessionID(ids[i])
	}
	if !same {
		t.Errorf("%d sessions, want %q: %+v", len(got), ids, got)
	}
}

// written counts the rows.
func written(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.db.queryRow(t.Context(), `SELECT count(*) FROM sessions`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSessions: they outlive a restart and changes of anything else, and end with their user's password or their user.
func TestSessions(t *testing.T) {
	dir := t.TempDir()
	s, began := open(t, testingOptions(dir)), time.Now().Unix()
	addUser(t, s, "alice", "hash")
	addUser(t, s, "bob", "hash")
	alice, bob := s.Access().Users["alice"].ID, s.Access().Users["bob"].ID
	long := testSession("a1", "alice", alice, began)
	long.Client = strings.Repeat("x", 1000)
	addSession(t, s, long)
	addSession(t, s, testSession("b1", "bob", bob, began+1))
	addSession(t, s, testSession("h1", "carol", 0, began+2))
	addSession(t, s, testSession("a2", "alice", alice, began+3), sessionID("a1"))
	wantSessions(t, s, "b1", "h1", "a2")
	s.SessionUsed(sessionID("h1"), "192.0.2.9")
	if _, err := s.AddGrant(t.Context(), "bob", Grant{glob(t, "**"), ActionPull}, Actor{}); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, s, "b1", "h1", "a2")
	shut(t, s)

	s = open(t, testingOptions(dir))
	wantSessions(t, s, "b1", "h1", "a2")
	if got, want := *s.Access().Sessions[sessionID("b1")], testSession("b1", "bob", bob, began+1); got != want {
		t.Errorf("after a restart %+v, want %+v", got, want)
	}
	uses, err := s.SessionUses(t.Context(), "carol")
	if u := uses[sessionID("h1")]; err != nil || len(uses) != 1 || u.Address != "192.0.2.9" || u.At.Unix() < 1_700_000_000 {
		t.Errorf("last use %+v, %v", uses, err)
	}
	if err := s.SetPassword(t.Context(), "bob", "other", Actor{}); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, s, "h1", "a2")
	if err := s.RemoveUser(t.Context(), "alice", Actor{}); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, s, "h1")
	if n, err := s.EndSessions(func(v *Session) bool { return v.User == "carol" }); n != 1 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	if n := written(t, s); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestSessionsAreBounded: the oldest of a user go, and what is over goes by itself.
func TestSessionsAreBounded(t *testing.T) {
	var now atomic.Int64
	now.Store(1_800_000_000)
	o := testingOptions(t.TempDir())
	o.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	s := open(t, o)
	addSession(t, s, testSession("other", "bob", 0, now.Load()-10))
	var want []string
	for i := range sessionsMax + 5 {
		id := fmt.Sprint(i)
		addSession(t, s, testSession(id, "alice", 0, now.Load()+int64(i)))
		want = append(want, id)
	}
	wantSessions(t, s, append([]string{"other"}, want[5:]...)...)
	if n := written(t, s); n != sessionsMax+1 {
		t.Errorf("%d rows", n)
	}
	now.Add(2 * 3600)
	if err := s.flushEvents(); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, s)
	if n := written(t, s); n != 0 {
		t.Errorf("%d rows of sessions that are over", n)
	}
}

// TestSessionsInMemory: who puts a full disk in order can log in and out, and a store that is not written keeps nothing.
func TestSessionsInMemory(t *testing.T) {
	dir := t.TempDir()
	s, began := open(t, testingOptions(dir)), time.Now().Unix()
	addSession(t, s, testSession("old", "alice", 0, began))
	addSession(t, s, testSession("kept", "alice", 0, began+1))
	full := error(&stateError{is: ErrFull, sentence: ": test"})
	s.w.failed.Store(&full)
	addSession(t, s, testSession("new", "alice", 0, began+2), sessionID("old"))
	wantSessions(t, s, "kept", "new")
	s.w.failed.Store(nil)
	// A reread of everything neither loses the one nor brings back the other.
	addUser(t, s, "bob", "hash")
	wantSessions(t, s, "kept", "new")
	if n := written(t, s); n != 2 {
		t.Errorf("%d rows, want those of before", n)
	}
	if err := s.pruneSessions(); err != nil {
		t.Fatal(err)
	}
	if n := written(t, s); n != 1 {
		t.Errorf("%d rows, want that of the one that goes on", n)
	}
	shut(t, s)

	o := testingOptions(dir)
	o.ReadOnly, o.Create = true, false
	s = open(t, o)
	addSession(t, s, testSession("fresh", "alice", 0, began+3))
	if n, err := s.EndSessions(func(v *Session) bool { return v.ID == sessionID("kept") }); n != 1 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	wantSessions(t, s, "fresh")
	s.SessionUsed(sessionID("fresh"), "192.0.2.9")
	addSession(t, s, testSession("later", "alice", 0, began+3+3600))
	wantSessions(t, s, "later")
	shut(t, s)
	s = open(t, o)
	wantSessions(t, s, "kept") // a store that is not written cannot forget it for good
}

// TestSessionsAtOnce: logins, logouts and other changes at a time leave in memory what is on the disk.
func TestSessionsAtOnce(t *testing.T) {
	s, began := open(t, testingOptions(t.TempDir())), time.Now().Unix()
	addUser(t, s, "alice", "hash")
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for j := range 20 {
				id := fmt.Sprint(i, " ", j)
				if err := s.AddSession(testSession(id, "bob", 0, began+int64(j))); err != nil {
					t.Error(err)
				}
				if j%4 == 0 {
					if _, err := s.EndSessions(func(v *Session) bool { return v.ID == sessionID(id) }); err != nil {
						t.Error(err)
					}
				}
				if j%8 == 0 {
					if err := s.SetPassword(t.Context(), "alice", id, Actor{}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	running.Wait()
	now := s.Access()
	if err := s.access.load(t.Context(), s.db); err != nil {
		t.Fatal(err)
	}
	after := s.Access()
	if len(now.Sessions) != sessionsMax || len(after.Sessions) != sessionsMax || len(s.access.ended) != 0 {
		t.Errorf("%d sessions in memory and %d on the disk, want %d", len(now.Sessions), len(after.Sessions), sessionsMax)
	}
	for id := range now.Sessions {
		if after.Sessions[id] == nil {
			t.Error("a session is in memory only")
		}
	}
}
