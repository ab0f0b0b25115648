package store

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

func glob(t *testing.T, s string) oci.Glob {
	t.Helper()
	g, err := oci.ParseGlob(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func addUser(t *testing.T, s *Store, name, password string, grants ...Grant) (granted []Grant, first bool) {
	t.Helper()
	granted, first, err := s.AddUser(t.Context(), name, password, grants, Actor{Name: "admin", Address: "socket"})
	if err != nil {
		t.Fatal(err)
	}
	return granted, first
}

func TestParseActions(t *testing.T) {
	for s, want := range map[string]Actions{"pull": ActionPull, "pull, push": ActionPull | ActionPush, "delete,overwrite,pull": ActionPull | ActionOverwrite | ActionDelete, "admin": ActionAdmin} {
		got, err := ParseActions(s)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
		if again, err := ParseActions(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q", s, got)
		}
	}
	for _, s := range []string{"", "pull,", "Pull", "all", "pull push"} {
		if got, err := ParseActions(s); !errors.Is(err, ErrActionsInvalid) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if !ActionAdmin.Has(ActionDelete|ActionPull) || ActionPull.Has(ActionPull|ActionPush) || (ActionPush | ActionPull).Has(ActionOverwrite) {
		t.Error("Has")
	}
}

func TestCheckUserName(t *testing.T) {
	for _, name := range []string{"a", "alice", "ci-bot_1", "alice@example.org", strings.Repeat("x", 64)} {
		if err := CheckUserName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a:b", "a b", "anonymous", "é", "a\n", "a\x00", `a"`, "a,b", "a;b", "$(a)", "*a", "a|b", "a/b", strings.Repeat("x", 65)} {
		if err := CheckUserName(name); !errors.Is(err, ErrUserInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestAccess: what is changed is in force at once, and after a restart; who is removed takes everything along.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	ctx, by := t.Context(), Actor{Name: "admin", Address: "socket"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	addUser(t, s, "alice", "hash1", Grant{glob(t, "team/**"), ActionPull})
	if _, _, err := s.AddUser(ctx, "alice", "hash", nil, by); !errors.Is(err, ErrUserExists) {
		t.Errorf("the same user again: %v", err)
	}
	if _, _, err := s.AddUser(ctx, "a:b", "hash", nil, by); !errors.Is(err, ErrUserInvalid) {
		t.Errorf("bad name: %v", err)
	}
	if now, err := s.AddGrant(ctx, "alice", Grant{glob(t, "team/**"), ActionPush}, by); err != nil || now.Actions != ActionPull|ActionPush {
		t.Errorf("grant: %v, %v", now, err)
	}
	if now, err := s.RemoveGrant(ctx, "alice", Grant{glob(t, "team/**"), ActionPull}, by); err != nil || now.Actions != ActionPush {
		t.Errorf("revoke: %v, %v", now, err)
	}
	if _, err := s.RemoveGrant(ctx, "alice", Grant{glob(t, "team/*"), ActionPush}, by); !errors.Is(err, ErrGrantUnknown) {
		t.Errorf("revoke of another pattern: %v", err)
	}
	if _, err := s.AddGrant(ctx, "bob", Grant{glob(t, "**"), ActionPull}, by); !errors.Is(err, ErrUserUnknown) {
		t.Errorf("grant to nobody: %v", err)
	}
	must(s.SetAnonymous(ctx, Grant{glob(t, "pub/**"), ActionPull}, by))
	must(s.SetAnonymous(ctx, Grant{glob(t, "x"), ActionPull}, by))
	must(s.SetAnonymous(ctx, Grant{glob(t, "x"), 0}, by))
	expires := time.Unix(s.stamp()+3600, 0)
	must(s.AddToken(ctx, "alice", Token{ID: "t1", Secret: []byte("s"), Description: "ci", Grant: Grant{glob(t, "team/a"), ActionPush}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, ExpiresAt: expires}, by))
	must(s.AddToken(ctx, "alice", Token{ID: "t2", Secret: []byte("s"), Grant: Grant{glob(t, "**"), ActionPull}}, by))
	must(s.RemoveToken(ctx, "t2", by))
	if err := s.RemoveToken(ctx, "t2", by); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("revoke twice: %v", err)
	}
	must(s.SetPassword(ctx, "alice", "hash2", by))
	s.TokenUsed("t1", "192.0.2.7")

	for _, when := range []string{"at once", "after a restart"} {
		a := s.Access()
		u, v := a.Users["alice"], a.Tokens["t1"]
		if u == nil || u.Password != "hash2" || len(u.Grants) != 1 || u.Grants[0].Actions != ActionPush || u.IsAdmin() {
			t.Fatalf("%s: user %+v", when, u)
		}
		if len(a.Tokens) != 1 || v.User != u || !v.ExpiresAt.Equal(expires) || len(v.Networks) != 2 || v.Description != "ci" || v.Grant.Repositories.String() != "team/a" {
			t.Errorf("%s: token %+v", when, v)
		}
		if len(a.Anonymous) != 1 || a.Anonymous[0].Repositories.String() != "pub/**" {
			t.Errorf("%s: anonymous %+v", when, a.Anonymous)
		}
		if when == "at once" {
			shut(t, s)
			s = open(t, testingOptions(dir))
		}
	}
	uses, err := s.TokenUses(ctx)
	if err != nil || uses["t1"].Address != "192.0.2.7" || uses["t1"].At.IsZero() {
		t.Errorf("uses: %+v, %v", uses, err)
	}
	must(s.RemoveUser(ctx, "alice", by))
	if a := s.Access(); len(a.Users) != 0 || len(a.Tokens) != 0 {
		t.Errorf("after the user: %+v", a)
	}
	entries, err := s.AuditEntries(ctx, AuditFilter{}, AuditEntry{}, 100)
	if err != nil || len(entries) != 11 || entries[0].Action != AuditUserRemove || entries[0].Who != "admin" {
		t.Errorf("%d entries, first %+v, %v", len(entries), entries[0], err)
	}
}

// TestAdminPassword: the file with the password that was made up goes when the password does.
func TestAdminPassword(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	if err := s.WriteAdminPassword("secret"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileAdminPassword)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	for _, name := range []string{"other", FirstUser} {
		addUser(t, s, name, "hash")
		if err := s.SetPassword(t.Context(), name, "hash2", Actor{}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != (name == "other") {
			t.Errorf("after the password of %s was changed: %v", name, err)
		}
	}
}

// TestReadOnlyAnonymous: a store that is not written goes by what it is told until it is closed.
func TestReadOnlyAnonymous(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	shut(t, s)
	o := testingOptions(dir)
	o.ReadOnly, o.Create = true, false
	s = open(t, o)
	for _, actions := range []Actions{ActionPull, ActionPull | ActionPush, 0} {
		s.OpenInMemory(Grant{glob(t, "**"), actions}, false)
		if name, _ := oci.ParseName("a"); Allowed(s.Access().Anonymous, name) != actions {
			t.Errorf("%v: %+v", actions, s.Access().Anonymous)
		}
	}
	if err := s.SetAnonymous(t.Context(), Grant{glob(t, "**"), ActionPull}, Actor{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("SetAnonymous: %v", err)
	}
	if _, _, err := s.AddUser(t.Context(), "a", "h", nil, Actor{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("AddUser: %v", err)
	}
}

// TestAudit: pushes and deletes are written with the change, logins a little later; pages and filters; old ones go.
func TestAudit(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	alice := Actor{Name: "alice", Address: "192.0.2.1", Token: "t1", Client: "crane/1"}
	s.Audit(AuditEntry{Action: AuditLogin}, alice)
	c.set(c.now.Add(time.Minute))
	m := image(t, s, "a", "1", "x", "y")
	if err := s.DeleteTag(t.Context(), name("a"), tag("x"), Condition{}, alice); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteManifest(t.Context(), name("a"), m, Condition{}, alice); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteBlob(t.Context(), name("a"), sum([]byte("1")), alice); err != nil {
		t.Fatal(err)
	}
	list := func(f AuditFilter) (got string) {
		t.Helper()
		var last AuditEntry
		for {
			page, err := s.AuditEntries(t.Context(), f, last, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				got += string(e.Action) + " " + e.Repository + " " + strings.ReplaceAll(e.Reference, "sha256:", "")[:min(len(e.Reference), 4)] + "; "
				last = e
			}
			if len(page) < 2 {
				return got
			}
		}
	}
	d, b := m.Encoded()[:4], sum([]byte("1")).Encoded()[:4]
	all := "delete a " + b + "; delete a " + d + "; delete a x; push a x, y; login  ; "
	for f, want := range map[AuditFilter]string{
		{}: all, {Who: "alice"}: strings.ReplaceAll(all, "push a x, y; ", ""), {Token: "t1"}: strings.ReplaceAll(all, "push a x, y; ", ""), {Token: "t2"}: "", {Repository: "a"}: strings.ReplaceAll(all, "login  ; ", ""),
		{Since: c.now}: strings.ReplaceAll(all, "login  ; ", ""), {Since: c.now.Add(time.Second)}: "",
	} {
		if got := list(f); got != want {
			t.Errorf("%+v:\n got %s\nwant %s", f, got, want)
		}
	}
	c.set(c.now.Add(91 * day))
	s.Audit(AuditEntry{Action: AuditDenied, Detail: strings.Repeat("x", 1000)}, alice)
	if got := list(AuditFilter{}); got != "denied  ; " {
		t.Errorf("after 91 days: %s", got)
	}
}

// TestNoOverwrite: who may only make new tags makes them, pushes the same again, and moves none.
func TestNoOverwrite(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	one, two := imageOf(mustPush(t, s, "a", "1")), imageOf(mustPush(t, s, "a", "2"))
	push := func(raw []byte, tags ...string) error {
		m, err := oci.ParseManifest(imageType, raw)
		if err != nil {
			t.Fatal(err)
		}
		p := ManifestPut{Name: name("a"), Digest: sum(raw), Manifest: m, NoOverwrite: true}
		for _, v := range tags {
			p.Tags = append(p.Tags, tag(v))
		}
		_, err = s.PutManifest(t.Context(), p)
		return err
	}
	if err := push(one, "x"); err != nil {
		t.Fatal(err)
	}
	if err := push(one, "x"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := push(two, "new", "x"); !errors.Is(err, ErrOverwrite) || at(t, s, "a", "new") != "" || at(t, s, "a", "x") != sum(one) {
		t.Errorf("another one: %v", err)
	}
	if err := push(two, "new"); err != nil {
		t.Error(err)
	}
}

// TestFirstUser: the first one gets all rights unless they are said, and only one is the first.
func TestFirstUser(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	firsts := make(chan bool, 8)
	var wg sync.WaitGroup
	for i := range cap(firsts) {
		wg.Go(func() {
			_, first, err := s.AddUser(t.Context(), fmt.Sprint("u", i), "hash", nil, Actor{})
			if err != nil {
				t.Error(err)
			}
			firsts <- first
		})
	}
	wg.Wait()
	close(firsts)
	n, admins := 0, 0
	for first := range firsts {
		if first {
			n++
		}
	}
	for _, u := range s.Access().Users {
		if u.IsAdmin() {
			admins++
		}
	}
	if n != 1 || admins != 1 {
		t.Errorf("%d are the first, %d administer", n, admins)
	}
}

// TestUnknownAccess: when the database cannot be read after a change nobody may do anything, until it can.
func TestUnknownAccess(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	addUser(t, s, "alice", "hash")
	rename := func(from, to string) {
		t.Helper()
		if err := s.change(anything, func(tx *tx) error {
			_, err := tx.exec("ALTER TABLE " + from + " RENAME TO " + to)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	rename("anonymous_grants", "away")
	if err := s.SetPassword(t.Context(), "alice", "other", Actor{}); err == nil || !s.Access().Unknown || len(s.Access().Users) != 0 {
		t.Errorf("%+v, %v", s.Access(), err)
	}
	rename("away", "anonymous_grants")
	s.rereadAccess(t.Context())
	if a := s.Access(); a.Unknown || a.Users["alice"].Password != "other" {
		t.Errorf("%+v", a)
	}
}

// TestAuditNoise: logins and denials, which strangers can cause without end, push out no change.
func TestAuditNoise(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	addUser(t, s, "alice", "hash")
	err := s.change(anything, func(tx *tx) error {
		for range auditNoiseMax + 500 {
			if err := tx.audit(AuditEntry{Action: AuditDenied}, Actor{}); err != nil {
				return err
			}
		}
		return tx.pruneAudit()
	})
	if err != nil {
		t.Fatal(err)
	}
	noise, changes := 0, 0
	var last AuditEntry
	for {
		page, err := s.AuditEntries(t.Context(), AuditFilter{}, last, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if last = e; e.Action == AuditDenied {
				noise++
			} else {
				changes++
			}
		}
		if len(page) == 0 {
			break
		}
	}
	if noise != auditNoiseMax || changes != 1 {
		t.Errorf("%d denials and %d changes are left", noise, changes)
	}
}

// TestAuditIsPutBack: what could not be written waits for the next time.
func TestAuditIsPutBack(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	s.Audit(AuditEntry{Action: AuditLogin}, Actor{Name: "alice"})
	s.TokenUsed("t", "192.0.2.1")
	full := error(&stateError{is: ErrFull, sentence: ": test"})
	s.w.failed.Store(&full)
	if err := s.flushEvents(); err == nil {
		t.Fatal("written to a full disk")
	}
	s.w.failed.Store(nil)
	if n := len(s.events.tokens); n != 1 {
		t.Errorf("%d last uses wait", n)
	}
	if entries, err := s.AuditEntries(t.Context(), AuditFilter{}, AuditEntry{}, 10); err != nil || len(entries) != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
}

// TestUploadsQuota: one user, or one address, does not take every session.
func TestUploadsQuota(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	start := func(quota string) error {
		_, err := s.StartCountedUpload(name("a"), "anonymous", quota, digest.SHA256)
		return err
	}
	for range uploadsQuota {
		if err := start("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := start("192.0.2.1"); !errors.Is(err, ErrUploadsTooMany) {
		t.Errorf("one more: %v", err)
	}
	if err := start("192.0.2.2"); err != nil {
		t.Error(err)
	}
	// One that is in use stops no other from making room.
	s.uploads.mu.Lock()
	first := true
	for _, u := range s.uploads.all {
		u.progress.Store(u.progress.Load() - 3600)
		if first && u.quota == "192.0.2.1" {
			<-u.turn
			defer func() { u.turn <- struct{}{} }()
			u.progress.Store(0)
			first = false
		}
	}
	s.uploads.mu.Unlock()
	if err := start("192.0.2.1"); err != nil {
		t.Errorf("with idle ones: %v", err)
	}
}
