package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAuditActions: people can look for everything that is noted.
func TestAuditActions(t *testing.T) {
	all := AuditActions()
	for i, a := range all {
		if a == "" || slices.Contains(all[:i], a) {
			t.Errorf("action %q is there twice, or empty", a)
		}
	}
	if len(all) != 14 {
		t.Errorf("%d actions", len(all))
	}
}

// TestAuditSearch selects by each field of a filter, in pages.
func TestAuditSearch(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	note := func(who, address string, action AuditAction, repository, reference string) {
		s.Audit(AuditEntry{Action: action, Repository: repository, Reference: reference}, Actor{Name: who, Address: address, Token: "t-" + who})
	}
	note("alice", "192.0.2.1", AuditPush, "team/api", "1.0, Latest")
	note("bob", "192.0.2.2", AuditDenied, "team_api", "100%")
	note("alice", "192.0.2.2", AuditLogin, "", "")
	search := func(f AuditFilter) (got string) {
		t.Helper()
		for from := ""; ; {
			p, err := s.AuditSearch(t.Context(), f, from, 1)
			if err != nil {
				t.Fatalf("%+v: %v", f, err)
			}
			for _, e := range p.Entries {
				got += e.Who + " " + string(e.Action) + "; "
			}
			if from = p.Next; from == "" {
				return got
			}
		}
	}
	for _, tt := range []struct {
		f    AuditFilter
		want string
	}{
		{AuditFilter{}, "alice login; bob denied; alice push; "},
		{AuditFilter{Who: "alice"}, "alice login; alice push; "},
		{AuditFilter{Token: "t-bob"}, "bob denied; "},
		{AuditFilter{Action: AuditPush}, "alice push; "},
		{AuditFilter{Action: "pus"}, ""},
		{AuditFilter{Address: "192.0.2.2"}, "alice login; bob denied; "},
		{AuditFilter{Address: "192.0.2"}, ""},
		{AuditFilter{Who: "alice", Address: "192.0.2.2"}, "alice login; "},
		{AuditFilter{Part: "am/a"}, "alice push; "},
		{AuditFilter{Part: "latest"}, "alice push; "},
		{AuditFilter{Part: "m_a"}, "bob denied; "},
		{AuditFilter{Part: "%"}, "bob denied; "},
		{AuditFilter{Part: `\`}, ""},
		{AuditFilter{Part: "' OR 1=1 --"}, ""},
		{AuditFilter{Who: "' OR 1=1 --"}, ""},
		{AuditFilter{Since: time.Now().Add(time.Hour)}, ""},
		{AuditFilter{Since: time.Now().Add(-time.Hour), Who: "bob"}, "bob denied; "},
	} {
		if got := search(tt.f); got != tt.want {
			t.Errorf("%+v:\n got %s\nwant %s", tt.f, got, tt.want)
		}
	}
	for _, from := range []string{"x", "e30", cursor{Sort: "name"}.String(), cursor{Sort: auditOrder, Key: "x"}.String(), cursor{Sort: auditOrder, Key: "-1"}.String()} {
		if _, err := s.AuditSearch(t.Context(), AuditFilter{}, from, 1); !errors.Is(err, ErrCursor) {
			t.Errorf("from %q: %v, want ErrCursor", from, err)
		}
	}
}

// TestAuditLook: a search in a large log stops, says how far it came, and goes on from there.
func TestAuditLook(t *testing.T) {
	const rows = 2*auditLook + 1000
	o := testingOptions(t.TempDir())
	o.Now = newClock(time.Unix(1_700_000_000+rows, 0)).Now
	s := open(t, o)
	err := s.change(anything, func(t *tx) error {
		// One entry a second; the first one is what is looked for.
		_, err := t.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO audit SELECT i, 1700000000 + i, 'push', CASE i WHEN 1 THEN 'first' ELSE 'other' END, '', 'team/api', 'v' || i, '', '192.0.2.1', '' FROM n`, rows)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	from, looked := "", []time.Time{}
	for {
		p, err := s.AuditSearch(t.Context(), AuditFilter{Who: "first"}, from, 10)
		if err != nil {
			t.Fatal(err)
		}
		if from = p.Next; from == "" {
			if len(p.Entries) != 1 || p.Entries[0].ID != 1 || !p.Looked.IsZero() {
				t.Errorf("at the end: %+v", p)
			}
			break
		}
		if len(p.Entries) > 0 || len(looked) > 5 {
			t.Fatalf("after %d pages: %+v", len(looked), p)
		}
		looked = append(looked, p.Looked)
	}
	want := []time.Time{time.Unix(1700000000+rows-auditLook+1, 0), time.Unix(1700000000+rows-2*auditLook+1, 0)}
	if !slices.EqualFunc(looked, want, time.Time.Equal) {
		t.Errorf("looked back to %v, want %v", looked, want)
	}
	// Nothing before the time that was asked for is looked at.
	p, err := s.AuditSearch(t.Context(), AuditFilter{Who: "first", Since: time.Unix(1700000000+rows-auditLook+2, 0)}, "", 10)
	if err != nil || p.Next != "" || len(p.Entries) > 0 {
		t.Errorf("since a time: %+v, %v", p, err)
	}
	// All of it can be read on, whatever the length of a page.
	if p, err = s.AuditSearch(t.Context(), AuditFilter{}, "", 10); err != nil || len(p.Entries) != 10 || p.Next == "" || !p.Looked.IsZero() {
		t.Errorf("without a filter: %d entries, next %q, %v", len(p.Entries), p.Next, err)
	}
	rowsPlan := s.explain(t, `SELECT at, id FROM audit WHERE (at, id) < (1, 1) ORDER BY at DESC, id DESC LIMIT 1 OFFSET 9`)
	if !strings.Contains(rowsPlan, "audit_at") || strings.Contains(rowsPlan, "TEMP") {
		t.Errorf("the plan of a search is %s", rowsPlan)
	}
}

// explain returns how SQLite would run a statement.
func (s *Store) explain(t *testing.T, query string) (plan string) {
	t.Helper()
	lines, err := collect(t.Context(), s.db, func(r row) (detail string, err error) {
		var id, parent, unused int
		return detail, r.Scan(&id, &parent, &unused, &detail)
	}, "EXPLAIN QUERY PLAN "+query)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "; ")
}

// TestUserUses: a session, a token and a password all count, and a namesake of before does not.
func TestUserUses(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	for _, u := range []string{"alice", "bob", "carol", "dave", "eve"} {
		if _, _, err := s.AddUser(t.Context(), u, "hash", nil, Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddToken(t.Context(), "alice", Token{ID: "t1", Secret: []byte("s"), Grant: Grant{glob(t, "**"), ActionPull}}, Actor{}); err != nil {
		t.Fatal(err)
	}
	at := func(seconds int) { c.set(time.Unix(1_700_000_000+int64(seconds), 0)) }
	at(10)
	s.TokenUsed("t1", "192.0.2.1")
	at(20)
	v := Session{ID: SessionID{1}, User: "bob", UserID: s.Access().Users["bob"].ID, CreatedAt: c.now, ExpiresAt: c.now.Add(time.Hour), Address: "192.0.2.2"}
	if err := s.AddSession(v); err != nil {
		t.Fatal(err)
	}
	at(30)
	s.Audit(AuditEntry{Action: AuditLogin}, Actor{Name: "carol", Address: "192.0.2.3"})
	s.Audit(AuditEntry{Action: AuditLoginFailed}, Actor{Name: "dave", Address: "192.0.2.4"})
	s.Audit(AuditEntry{Action: AuditLogin}, Actor{Name: "eve", Address: "192.0.2.5"})
	at(40)
	if err := s.RemoveUser(t.Context(), "eve", Actor{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.AddUser(t.Context(), "eve", "hash", nil, Actor{}); err != nil {
		t.Fatal(err)
	}
	uses, err := s.UserUses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, use := range uses {
		got = append(got, fmt.Sprintf("%s %d %s", name, use.At.Unix()-1_700_000_000, use.Address))
	}
	slices.Sort(got)
	if want := []string{"alice 10 192.0.2.1", "bob 20 192.0.2.2", "carol 30 192.0.2.3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
