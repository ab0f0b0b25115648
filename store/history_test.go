package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// image returns the manifest of an image with its own blob, pushed to repo under tags.
func image(t *testing.T, s *Store, repo, content string, tags ...string) digest.Digest {
	t.Helper()
	return mustPut(t, s, repo, imageOf(mustPush(t, s, repo, content)), tags...)
}

// at returns where a tag is, or "".
func at(t *testing.T, s *Store, repo, v string) digest.Digest {
	t.Helper()
	m, err := s.Manifest(t.Context(), name(repo), oci.Reference{Tag: tag(v)}, false)
	if errors.Is(err, ErrManifestUnknown) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

func mustTarget(t *testing.T, text string) Target {
	t.Helper()
	target, err := ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestUndo walks a tag back and says each step.
func TestUndo(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	by := Actor{Name: "alice", Address: "192.0.2.1"}
	one, two, three := image(t, s, "a", "1"), image(t, s, "a", "2"), image(t, s, "a", "3")
	push := func(content string) func() error {
		return func() error { return put(t, s, "a", imageOf(sum([]byte(content))), "x") }
	}
	undo := func() error { _, err := s.Undo(t.Context(), name("a"), tag("x"), by); return err }
	remove := func() error { return s.DeleteTag(t.Context(), name("a"), tag("x"), Condition{}, by) }
	for i, step := range []struct {
		what string
		do   func() error
		want digest.Digest
	}{
		{"push 1", push("1"), one},
		{"push 2", push("2"), two},
		{"remove", remove, ""},
		{"undo of the removal", undo, two},
		{"undo of push 2", undo, one},
		{"push 3", push("3"), three},
		{"undo of push 3", undo, one},
		{"undo of push 1, below what was undone before", undo, ""},
		{"push 2 again", push("2"), two},
		{"undo of push 2", undo, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.what, err)
		}
		if got := at(t, s, "a", "x"); got != step.want {
			t.Fatalf("step %d, %s: the tag is at %q, want %q", i, step.what, got, step.want)
		}
	}
	if err := undo(); !errors.Is(err, ErrHistoryUnknown) {
		t.Errorf("undo with nothing left: %v", err)
	}
	moves, err := s.History(t.Context(), name("a"), tag("x"), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var undone []int64
	for _, m := range slices.Backward(moves) {
		undone = append(undone, m.Undoes)
	}
	if want := []int64{0, 0, 0, 3, 2, 0, 6, 1, 0, 9}; !slices.Equal(undone, want) {
		t.Errorf("entries undo %v, want %v", undone, want)
	}
	last := moves[0]
	if last.From != two || last.To != "" || last.Number != 10 || last.Who != "alice" || last.Address != "192.0.2.1" {
		t.Errorf("the last entry is %+v", last)
	}
	// The manifest that the tag left is kept from now on, and the one that it came back to is no longer untagged.
	mustPut(t, s, "a", imageOf(sum([]byte("2"))), "x")
	mustPut(t, s, "a", imageOf(sum([]byte("3"))), "x")
	m, err := s.Undo(t.Context(), name("a"), tag("x"), by)
	if err != nil || m.From != three || m.To != two || m.Undoes != 12 || m.Number != 13 {
		t.Errorf("undo says %+v, %v", m, err)
	}
	for _, tt := range []struct {
		dgst digest.Digest
		want bool
	}{{two, false}, {three, true}} {
		var untagged bool
		if err := s.db.queryRow(t.Context(), `SELECT untagged_since IS NOT NULL FROM manifests m JOIN digests d ON d.id = m.digest WHERE d.digest = ?`,
			tt.dgst.String()).Scan(&untagged); err != nil || untagged != tt.want {
			t.Errorf("%s: untagged %v, %v", tt.dgst, untagged, err)
		}
	}
}

// TestUndoModel compares random moves with a stack of states.
func TestUndoModel(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	var images []digest.Digest
	for i := range 4 {
		images = append(images, image(t, s, "a", fmt.Sprint(i)))
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	by := Actor{Name: "test"}
	stack := []digest.Digest{""}  // states to go back to, the present one last
	states := []digest.Digest{""} // after each entry, by number
	move := func(to digest.Digest) {
		if to != stack[len(stack)-1] {
			stack, states = append(stack, to), append(states, to)
		}
	}
	for i := range 500 {
		var err error
		what := ""
		switch r.IntN(5) {
		case 0, 1:
			n := r.IntN(len(images))
			what = fmt.Sprint("push ", n)
			err = put(t, s, "a", imageOf(sum(fmt.Append(nil, n))), "x")
			move(images[n])
		case 2:
			what = "remove"
			err = s.DeleteTag(t.Context(), name("a"), tag("x"), Condition{}, by)
			if stack[len(stack)-1] == "" && errors.Is(err, ErrManifestUnknown) {
				err = nil
			}
			move("")
		case 3:
			what = "undo"
			_, err = s.Undo(t.Context(), name("a"), tag("x"), by)
			if len(stack) == 1 {
				if !errors.Is(err, ErrHistoryUnknown) {
					t.Fatalf("seed %d, step %d: undo with nothing left: %v", seed, i, err)
				}
				continue
			}
			stack = stack[:len(stack)-1]
			states = append(states, stack[len(stack)-1])
		case 4:
			n := r.IntN(len(states))
			if states[n] == "" {
				continue
			}
			what = fmt.Sprint("restore ", n)
			_, err = s.Restore(t.Context(), name("a"), tag("x"), mustTarget(t, fmt.Sprintf("#%d", n)), false, by)
			move(states[n])
		}
		if err != nil {
			t.Fatalf("seed %d, step %d, %s: %v", seed, i, what, err)
		}
		if got, want := at(t, s, "a", "x"), stack[len(stack)-1]; got != want {
			t.Fatalf("seed %d, step %d, %s: the tag is at %q, want %q", seed, i, what, got, want)
		}
	}
}

func TestHistory(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	one := image(t, s, "a", "1", "x", "y")
	two := image(t, s, "a", "2", "x")
	image(t, s, "b", "1", "x") // another repository's tag of that name
	list := func(v oci.Tag, before int64, n int) []string {
		moves, err := s.History(t.Context(), name("a"), v, before, n)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range moves {
			lines = append(lines, fmt.Sprintf("%s#%d %s>%s %v", m.Tag, m.Number, m.From, m.To, m.Deleted))
		}
		return lines
	}
	x1, x2, y1 := fmt.Sprintf("x#1 >%s false", one), fmt.Sprintf("x#2 %s>%s false", one, two), fmt.Sprintf("y#1 >%s false", one)
	for _, tt := range []struct {
		tag  oci.Tag
		n    int
		want []string
	}{
		{tag("x"), 10, []string{x2, x1}},
		{tag("x"), 1, []string{x2}},
		{oci.Tag{}, 10, []string{x2, y1, x1}},
		{oci.Tag{}, 2, []string{x2, y1}},
	} {
		if got := list(tt.tag, 0, tt.n); !slices.Equal(got, tt.want) {
			t.Errorf("tag %q, at most %d: %q, want %q", tt.tag, tt.n, got, tt.want)
		}
	}
	moves, err := s.History(t.Context(), name("a"), oci.Tag{}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list(oci.Tag{}, moves[0].ID, 10), []string{y1, x1}; !slices.Equal(got, want) {
		t.Errorf("before %d: %q, want %q", moves[0].ID, got, want)
	}
	if got, want := list(tag("x"), moves[0].ID, 10), []string{x1}; !slices.Equal(got, want) {
		t.Errorf("tag x before %d: %q, want %q", moves[0].ID, got, want)
	}
	if _, err := s.History(t.Context(), name("a"), tag("z"), 0, 10); !errors.Is(err, ErrHistoryUnknown) {
		t.Errorf("a tag that never was: %v", err)
	}
	if _, err := s.History(t.Context(), name("c"), oci.Tag{}, 0, 10); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("a repository that never was: %v", err)
	}
}

func TestRestore(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	begin := c.now
	later := func(d time.Duration) Target { return TargetAt(begin.Add(d)) }
	one := image(t, s, "a", "1", "x")
	c.set(begin.Add(time.Hour))
	two := image(t, s, "a", "2", "x")
	c.set(begin.Add(2 * time.Hour))
	by := Actor{Name: "alice"}
	if err := s.DeleteTag(t.Context(), name("a"), tag("x"), Condition{}, by); err != nil {
		t.Fatal(err)
	}
	c.set(begin.Add(3 * time.Hour))
	image(t, s, "a", "3", "x")
	never := image(t, s, "a", "4")
	for _, tt := range []struct {
		what   string
		target Target
		want   digest.Digest
		err    error
	}{
		{"an entry", mustTarget(t, "#1"), one, nil},
		{"an entry without its sign", mustTarget(t, "2"), two, nil},
		{"an entry that is a removal", mustTarget(t, "#3"), two, ErrHistoryUnknown},
		{"no entry", mustTarget(t, "#999"), two, ErrHistoryUnknown},
		{"a digest", mustTarget(t, one.String()), one, nil},
		{"where it is already", mustTarget(t, one.String()), one, nil},
		{"a digest that the tag never had", mustTarget(t, never.String()), never, nil},
		{"the beginning of a digest", mustTarget(t, two.String()[:15]), two, nil},
		{"the beginning of a digest that it got by restore", mustTarget(t, never.String()[:15]), never, nil},
		{"the beginning of no digest", mustTarget(t, "sha256:00000000"), never, ErrHistoryUnknown},
		{"no digest of the repository", mustTarget(t, sum([]byte("?")).String()), never, ErrManifestUnknown},
		{"a time before the first", later(-time.Second), never, ErrHistoryUnknown},
		{"the moment of the first", later(0), one, nil},
		{"a time between", later(90 * time.Minute), two, nil},
		{"a time when there was no tag", later(150 * time.Minute), two, ErrHistoryUnknown},
		{"the newest time", later(3*time.Hour - time.Second), two, ErrHistoryUnknown},
	} {
		before := at(t, s, "a", "x")
		c.set(c.now.Add(time.Minute))
		m, err := s.Restore(t.Context(), name("a"), tag("x"), tt.target, false, by)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.what, err, tt.err)
		}
		if got := at(t, s, "a", "x"); got != tt.want {
			t.Errorf("%s: the tag is at %s, want %s", tt.what, got, tt.want)
		}
		if err == nil && (m.From != before || m.To != tt.want || m.Tag != "x" || (m.Number == 0) != (before == tt.want)) {
			t.Errorf("%s: says %+v", tt.what, m)
		}
	}
	for _, text := range []string{"", "#", "#0", "-1", "x", "sha256:", "sha256:abc", "sha256:ABCDEF", "md5:abcdef", "abcdef", "sha256:abcd/.."} {
		if _, err := ParseTarget(text); !errors.Is(err, oci.ErrDigestInvalid) {
			t.Errorf("target %q: %v", text, err)
		}
	}
}

// TestRestoreAmbiguous: the beginning of two digests names neither.
func TestRestoreAmbiguous(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	blob := mustPush(t, s, "a", "1")
	raw := func(i int) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"c/c","digest":%q,"size":1},"layers":[],"annotations":{"i":"%d"}}`, blob, i)
	}
	n := len("sha256:") + digestPrefixMin
	seen := make(map[string]int)
	for i := 0; ; i++ {
		prefix := sum(raw(i)).String()[:n]
		other, ok := seen[prefix]
		seen[prefix] = i
		if !ok {
			continue
		}
		mustPut(t, s, "a", raw(other), "x")
		mustPut(t, s, "a", raw(i), "x")
		_, err := s.Restore(t.Context(), name("a"), tag("x"), mustTarget(t, prefix), false, Actor{})
		if !errors.Is(err, ErrHistoryUnknown) {
			t.Errorf("an ambiguous beginning: %v", err)
		}
		want := sum(raw(other))
		m, err := s.Restore(t.Context(), name("a"), tag("x"), mustTarget(t, want.String()[:n+8]), false, Actor{})
		if err != nil || m.To != want {
			t.Errorf("a longer beginning: %+v, %v", m, err)
		}
		return
	}
}

// TestContentDeleted: what was deleted cannot be had back, and the answer says by whom it was deleted and when.
func TestContentDeleted(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	begin := c.now
	by := Actor{Name: "bob", Address: "192.0.2.7"}
	refused := func(what string, err error, dgst digest.Digest, at time.Time, by Actor) {
		t.Helper()
		e, ok := errors.AsType[*ContentDeletedError](err)
		if !ok || !errors.Is(err, ErrContentDeleted) {
			t.Fatalf("%s: %v", what, err)
		}
		if e.Digest != dgst || !e.At.Equal(at) || e.By != by {
			t.Errorf("%s: %+v, want %s at %s by %+v", what, e, dgst, at, by)
		}
	}
	restore := func(text string) error {
		_, err := s.Restore(t.Context(), name("a"), tag("x"), mustTarget(t, text), false, by)
		return err
	}
	one := image(t, s, "a", "1", "x")
	two := image(t, s, "a", "2", "x")
	three := image(t, s, "a", "3", "x")

	// A manifest without tags, deleted by its digest.
	c.set(begin.Add(time.Hour))
	if err := s.DeleteManifest(t.Context(), name("a"), two, Condition{}, by); err != nil {
		t.Fatal(err)
	}
	c.set(begin.Add(2 * time.Hour))
	refused("entry", restore("#2"), two, begin.Add(time.Hour), by)
	refused("digest", restore(two.String()), two, begin.Add(time.Hour), by)
	_, err := s.Undo(t.Context(), name("a"), tag("x"), by)
	refused("undo", err, two, begin.Add(time.Hour), by)
	if got := at(t, s, "a", "x"); got != three {
		t.Errorf("a refused undo moved the tag to %s", got)
	}
	moves, err := s.History(t.Context(), name("a"), tag("x"), 0, 10)
	if err != nil || len(moves) != 3 || moves[0].Deleted || !moves[1].Deleted || moves[2].Deleted {
		t.Errorf("history %+v, %v", moves, err)
	}

	// With its tag: the tag's removal cannot be undone.
	if err := s.DeleteManifest(t.Context(), name("a"), three, Condition{}, by); err != nil {
		t.Fatal(err)
	}
	_, err = s.Undo(t.Context(), name("a"), tag("x"), by)
	refused("undo of a delete by digest", err, three, begin.Add(2*time.Hour), by)

	// By collection.
	err = s.change(anything, func(t *tx) error {
		var repository, id, dgst int64
		if err := t.queryRow(t.ctx, `SELECT m.repository, m.id, m.digest FROM manifests m JOIN digests d ON d.id = m.digest WHERE d.digest = ?`, one.String()).
			Scan(&repository, &id, &dgst); err != nil {
			return err
		}
		return t.removeManifest(repository, id, dgst, Lease)
	})
	if err != nil {
		t.Fatal(err)
	}
	refused("collected", restore("#1"), one, begin.Add(2*time.Hour), Actor{Name: "collection"})

	// Pushed again it can be had, and deleted again it says the newer time.
	image(t, s, "a", "2")
	if err := restore("#2"); err != nil {
		t.Errorf("pushed again: %v", err)
	}
	c.set(begin.Add(5 * time.Hour))
	if err := s.DeleteManifest(t.Context(), name("a"), two, Condition{}, Actor{Name: "eve"}); err != nil {
		t.Fatal(err)
	}
	refused("deleted again", restore("#2"), two, begin.Add(5*time.Hour), Actor{Name: "eve"})

	// What is remembered is bounded.
	err = s.change(anything, func(t *tx) error {
		_, err := t.exec(`UPDATE deleted_manifests SET id = id + ? WHERE id = (SELECT max(id) FROM deleted_manifests)`, deletedKept)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	four := image(t, s, "a", "4")
	if err := s.DeleteManifest(t.Context(), name("a"), four, Condition{}, by); err != nil {
		t.Fatal(err)
	}
	refused("forgotten", restore("#1"), one, time.Time{}, Actor{})
	refused("remembered", restore("#2"), two, begin.Add(5*time.Hour), Actor{Name: "eve"})
}

// TestMigrateHistory: entries of the first schema are numbered, and its contents counted.
func TestMigrateHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileDB)
	lockFix()
	old, err := sql.Open("sqlite", dsn(path, "mode=rwc", "_journal_mode=WAL"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	first := &database{write: old}
	if err := first.step(t.Context(), files[0], 1); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec(`
		INSERT INTO store (id, created_at) VALUES ('id', 0);
		INSERT INTO repositories (id, name, created_at) VALUES (1, 'a', 0), (2, 'b', 0), (3, 'empty', 0);
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) INSERT INTO digests SELECT i, printf('sha256:%064x', i) FROM n;
		INSERT INTO blobs (digest, size, created_at) VALUES (1, 10, 0), (2, 200, 0);
		INSERT INTO repository_blobs VALUES (1, 1, 0, 0), (1, 2, 0, 0), (2, 2, 0, 0);
		INSERT INTO manifests (repository, digest, media_type, artifact_type, size, refs, pushed_at, annotations) VALUES (1, 3, '', '', 3000, 0, 0, '');
		INSERT INTO tag_history (repository, tag, from_digest, to_digest, at, who, address) VALUES
			(1, 'x', NULL, 3, 0, '', ''), (1, 'y', NULL, 3, 0, '', ''), (2, 'x', NULL, 3, 0, '', ''), (1, 'x', 3, 4, 0, '', ''), (1, 'x', 4, NULL, 0, '', '')`); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(t.Context(), path, false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	for query, want := range map[string][]string{
		`SELECT repository || tag || number FROM tag_history ORDER BY id`:                                             {"1x1", "1y1", "2x1", "1x2", "1x3"},
		`SELECT name || ' ' || blob_bytes || ' ' || manifest_bytes || ' ' || only_here FROM repositories ORDER BY id`: {"a 210 3000 10", "b 200 0 0", "empty 0 0 0"},
		`SELECT blob_bytes || '' FROM store`:                                                                          {"210"},
	} {
		got, err := collect(context.Background(), db, scanString, query)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", query, got, err, want)
		}
	}
}

// TestImmutable: a tag that a rule keeps is pushed again as it is, and moves for nobody; without the tag it can be made.
func TestImmutable(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	one, two := imageOf(mustPush(t, s, "a", "1")), imageOf(mustPush(t, s, "a", "2"))
	mustPut(t, s, "a", one, "v1", "latest")
	mustPut(t, s, "a", two, "latest")
	s.SetImmutable(func(n oci.Name, v oci.Tag) string {
		if n == name("a") && v == tag("v1") {
			return "releases"
		}
		return ""
	})
	mustPut(t, s, "a", one, "v1")
	err := put(t, s, "a", two, "other", "v1")
	if !errors.Is(err, ErrImmutable) {
		t.Fatalf("another digest: %v", err)
	}
	for _, word := range []string{"releases", "v1", sum(one).String()} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %s", err, word)
		}
	}
	if at(t, s, "a", "v1") != sum(one) || at(t, s, "a", "other") != "" {
		t.Error("a refused push left something")
	}
	if _, err := s.Restore(t.Context(), name("a"), tag("v1"), mustTarget(t, sum(two).String()), false, Actor{}); !errors.Is(err, ErrImmutable) {
		t.Errorf("restore: %v", err)
	}
	// What it serves must not change either: not with another media type of the same bytes, nor by a delete of the digest.
	other, err := oci.ParseManifest("application/vnd.example.other+json", one)
	if err != nil {
		t.Fatal(err)
	}
	for _, tags := range [][]oci.Tag{nil, {tag("v1")}, {tag("elsewhere")}} {
		_, err := s.PutManifest(t.Context(), ManifestPut{Name: name("a"), Digest: sum(one), Manifest: other, Tags: tags})
		if !errors.Is(err, ErrImmutable) {
			t.Errorf("another media type with tags %v: %v", tags, err)
		}
	}
	if err := s.DeleteManifest(t.Context(), name("a"), sum(one), Condition{}, Actor{}); !errors.Is(err, ErrImmutable) {
		t.Errorf("delete by digest: %v", err)
	}
	mustPut(t, s, "a", two, "latest", "v2")
	if err := s.DeleteTag(t.Context(), name("a"), tag("v1"), Condition{}, Actor{}); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "a", two, "v1")
}

// TestChildKeepsItsType: what an index names is not served with another type.
func TestChildKeepsItsType(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	child := imageOf(mustPush(t, s, "a", "1"))
	mustPut(t, s, "a", child)
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, imageType, sum(child))
	index, err := oci.ParseManifest("application/vnd.oci.image.index.v1+json", raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutManifest(t.Context(), ManifestPut{Name: name("a"), Digest: sum(raw), Manifest: index, Tags: []oci.Tag{tag("index")}}); err != nil {
		t.Fatal(err)
	}
	other, err := oci.ParseManifest("application/vnd.example.other+json", child)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutManifest(t.Context(), ManifestPut{Name: name("a"), Digest: sum(child), Manifest: other}); !errors.Is(err, ErrInUse) {
		t.Errorf("another type: %v", err)
	}
	mustPut(t, s, "a", child)
}

// TestSettings: what is remembered is there after a restart, and can be forgotten.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	for _, v := range []string{"one", "two"} {
		if err := s.SetSetting("config", v); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, s)
	s = open(t, testingOptions(dir))
	if v, err := s.Setting(t.Context(), "config"); v != "two" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := s.SetSetting("config", ""); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Setting(t.Context(), "config"); v != "" || err != nil {
		t.Errorf("after it was forgotten: %q, %v", v, err)
	}
}
