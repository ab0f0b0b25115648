package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// unless returns all repositories but one; "" is nobody's name.
func (s *shelf) unless(hidden string) Among {
	if hidden == "" {
		return nil
	}
	among := Among{}
	for _, v := range must[[]Repository](s.t)(s.Repositories(s.t.Context(), "", 1000)) {
		if v.Name.String() != hidden {
			among = append(among, v.Name)
		}
	}
	return among
}

func TestFindTags(t *testing.T) {
	s := newShelf(t)
	dgst := s.image("a", "amd64", "1", "alpine", "Alpine-3", "my-alpine", "myalpine_2", "other")
	s.image("b", "amd64", "1", "ALPINE", "alpine-4")
	s.image("secret", "amd64", "1", "alpine", "alpine-5")
	s.artifact("a", "", sigType, "", cosignTag(dgst, ".sig"))
	for _, tt := range []struct {
		text, hidden string
		n            int
		want         string
		more         bool
	}{
		{"alpine", "secret", 10, "a:alpine b:ALPINE | a:Alpine-3 b:alpine-4 | a:my-alpine a:myalpine_2", false},
		{"ALPINE", "secret", 6, "a:alpine b:ALPINE | a:Alpine-3 b:alpine-4 | a:my-alpine a:myalpine_2", false},
		{"alpine", "", 10, "a:alpine b:ALPINE secret:alpine | a:Alpine-3 b:alpine-4 secret:alpine-5 | a:my-alpine a:myalpine_2", false},
		{"alpine", "secret", 3, "a:alpine b:ALPINE | a:Alpine-3", true},
		{"_", "", 10, "a:myalpine_2", false},
		{"%", "", 10, "", false},
		{"sha256-", "", 10, "", false},
		{"", "", 10, "", false},
		{strings.Repeat("x", 500), "", 10, "", false},
	} {
		var hits []TagHit
		var more bool
		among := s.unless(tt.hidden)
		f := func() {
			var err error
			if hits, more, err = s.FindTags(t.Context(), tt.text, among, tt.n); err != nil {
				t.Fatal(err)
			}
		}
		if tt.text == "" || len(tt.text) > 128 {
			f()
		} else {
			s.statements("FindTags", 1, f)
		}
		// Within a rank the order is not promised.
		var groups []string
		rest := hits
		for group := range strings.SplitSeq(tt.want, " | ") {
			n := min(len(strings.Fields(group)), len(rest))
			var part []string
			for _, h := range rest[:n] {
				part = append(part, h.Repository.String()+":"+h.Tag)
			}
			slices.Sort(part)
			groups, rest = append(groups, strings.Join(part, " ")), rest[n:]
		}
		if got := strings.Join(groups, " | "); got != tt.want || more != tt.more || len(rest) > 0 {
			t.Errorf("%.20q: %s %v, more %v; want %s, %v", tt.text, got, rest, more, tt.want, tt.more)
		}
	}
	if hits, _, _ := s.FindTags(t.Context(), "other", nil, 1); len(hits) != 1 || hits[0].Digest != dgst || hits[0].Kind != "image" {
		t.Errorf("hit %+v", hits)
	}
}

func TestFindDigests(t *testing.T) {
	s := newShelf(t)
	dgst := s.image("a", "amd64", "1", "t")
	s.image("secret", "amd64", "1", "t")
	config := sum([]byte(configOf("amd64", "1")))
	find := func(prefix, hidden string, n int) (string, bool) {
		t.Helper()
		hits, more, err := s.FindDigests(t.Context(), prefix, s.unless(hidden), n)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, h := range hits {
			all = append(all, fmt.Sprint(h.Repository, " ", h.Manifest, " ", h.Tag, " ", h.Kind, " ", h.Size > 0))
		}
		return strings.Join(all, ","), more
	}
	for _, tt := range []struct {
		prefix, hidden string
		n              int
		want           string
		more           bool
	}{
		{dgst.String(), "secret", 5, "a true t image true", false},
		{dgst.String()[:13], "secret", 5, "a true t image true", false},
		{dgst.Encoded()[:6], "secret", 5, "a true t image true", false},
		{strings.ToUpper(dgst.Encoded()[:8]), "a", 5, "secret true t image true", false},
		{dgst.Encoded(), "", 1, "a true t image true", true},
		{config.Encoded()[:10], "secret", 5, "a false   true", false},
		{dgst.Encoded()[:5], "", 5, "", false},
		{"sha512:" + dgst.Encoded(), "", 5, "", false},
		{"sha256:xyzxyz", "", 5, "", false},
		{"md5:" + dgst.Encoded(), "", 5, "", false},
		{"", "", 5, "", false},
	} {
		if got, more := find(tt.prefix, tt.hidden, tt.n); got != tt.want || more != tt.more {
			t.Errorf("%s: %s, more %v; want %s, %v", tt.prefix, got, more, tt.want, tt.more)
		}
	}
	s.statements("FindDigests", 1, func() { find(dgst.Encoded(), "", 5) })
	plan := must[[]string](t)(collect(t.Context(), s.db, func(r row) (string, error) {
		var id, parent, unused int
		var detail string
		return detail, r.Scan(&id, &parent, &unused, &detail)
	}, `EXPLAIN QUERY PLAN SELECT m.id FROM digests d CROSS JOIN manifests m ON m.digest = d.id WHERE d.digest >= 'a' AND d.digest < 'b' OR d.digest >= 'c' AND d.digest < 'd'`))
	if slices.ContainsFunc(plan, func(line string) bool { return strings.HasPrefix(line, "SCAN") }) {
		t.Errorf("digests are scanned: %v", plan)
	}
}

func TestFindLabels(t *testing.T) {
	s := newShelf(t)
	one := s.image("a", "amd64", "Value_One", "t")
	two := s.image("a", "amd64", "value two", "u")
	s.image("secret", "amd64", "value two", "u")
	noted := s.artifact("b", "x/y", "x/z", `,"annotations":{"org.example.note":"of value","N":"x=y","`+strings.Repeat("k", labelText+1)+`":"long","c":"a\u0001b"}`)
	for _, tt := range []struct {
		text, hidden string
		n            int
		want         []digest.Digest
		more         bool
	}{
		{"n", "secret", 10, []digest.Digest{one, two, noted}, false},
		{"n=value", "secret", 10, []digest.Digest{one, two}, false},
		{"N=VALUE_O", "secret", 10, []digest.Digest{one}, false},
		{"two", "secret", 10, []digest.Digest{two}, false},
		{"two", "", 10, []digest.Digest{two, two}, false},
		{"value", "secret", 2, nil, true},
		{"value", "secret", 10, []digest.Digest{one, two, noted}, false},
		{"x=y", "", 10, []digest.Digest{noted}, false},
		{"org.example.note", "", 10, []digest.Digest{noted}, false},
		{"long", "", 10, nil, false},
		{"%", "", 10, nil, false},
		{"nothing", "", 10, nil, false},
		{"", "", 10, nil, false},
	} {
		hits, more, err := s.FindLabels(t.Context(), tt.text, s.unless(tt.hidden), tt.n)
		var got []digest.Digest
		for _, h := range hits {
			got = append(got, h.Digest)
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if err != nil || more != tt.more || tt.more && len(got) != tt.n || !tt.more && !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, more %v, %v; want %v, %v", tt.text, hits, more, err, tt.want, tt.more)
		}
	}
	s.statements("FindLabels", 1, func() {
		hits, _, _ := s.FindLabels(t.Context(), "n=value two", nil, 1)
		if len(hits) != 1 || hits[0].Key != "n" || hits[0].Value != "value two" || hits[0].Tag != "u" {
			t.Errorf("hit %+v", hits)
		}
	})
}

func TestBiggestBlobs(t *testing.T) {
	s := newShelf(t)
	for i, repos := range [][]string{{"a"}, {"a", "b", "c", "d", "secret"}, {"secret"}, {"b"}} {
		for _, repo := range repos {
			pushed(t, s.Store, repo, strings.Repeat("x", 100*(i+1)))
		}
	}
	among := s.unless("secret")
	s.statements("BiggestBlobs", 1, func() {
		all := must[[]BigBlob](t)(s.BiggestBlobs(t.Context(), among, 2))
		if len(all) != 2 || all[0].Size != 400 || all[0].Count != 1 || all[1].Size != 200 || all[1].Count != 4 || len(all[1].Repositories) != 3 {
			t.Errorf("blobs %+v", all)
		}
	})
}

func TestOpenUploads(t *testing.T) {
	s := newShelf(t)
	id := must[string](t)(s.StartUpload(name("a"), "p", digest.SHA256))
	must[string](t)(s.StartUpload(name("a"), "p", digest.SHA256))
	if _, err := s.WriteUpload(t.Context(), name("a"), "p", id, -1, strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	if n, bytes := s.OpenUploads(); n != 2 || bytes != 5 {
		t.Errorf("%d sessions, %d bytes", n, bytes)
	}
}

func TestCollection(t *testing.T) {
	s := newShelf(t)
	for i := range 3 {
		if err := s.LogCollection(CollectionRun{StartedAt: time.Unix(int64(100+i), 0), Cause: "command", Outcome: "done", Blobs: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	all := must[[]CollectionRun](t)(s.Collections(t.Context(), 10))
	for _, run := range all {
		if got := must[CollectionRun](t)(s.Collection(t.Context(), run.ID)); got != run || got.ID == 0 {
			t.Errorf("run %+v, want %+v", got, run)
		}
	}
	if _, err := s.Collection(t.Context(), 99); !errors.Is(err, ErrCollectionUnknown) || !isRefusal(err) {
		t.Errorf("unknown run: %v", err)
	}
}

func TestRestoreNoOverwrite(t *testing.T) {
	s := newShelf(t)
	one := s.image("a", "amd64", "1", "x")
	two := s.image("a", "amd64", "2", "x")
	to := mustTarget(t, one.String())
	if _, err := s.Restore(t.Context(), name("a"), tag("x"), to, true, Actor{}); !errors.Is(err, ErrOverwrite) {
		t.Errorf("a tag that is there moved: %v", err)
	}
	if m, err := s.Restore(t.Context(), name("a"), tag("x"), mustTarget(t, two.String()), true, Actor{}); err != nil || m.Number != 0 {
		t.Errorf("a tag that is there already: %+v, %v", m, err)
	}
	if err := s.DeleteTag(t.Context(), name("a"), tag("x"), Condition{}, Actor{}); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Restore(t.Context(), name("a"), tag("x"), to, true, Actor{}); err != nil || m.To != one {
		t.Errorf("a tag that is gone: %+v, %v", m, err)
	}
}
