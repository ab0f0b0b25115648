package store

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"cubby/store/oci"
)

// observe returns what every cached read says of two repositories, in one text.
func observe(t *testing.T, s *Store, references []oci.Reference) string {
	t.Helper()
	var all strings.Builder
	for _, repo := range []string{"a", "b"} {
		for _, ref := range references {
			for _, raw := range []bool{false, true} {
				m, err := s.Manifest(t.Context(), name(repo), ref, raw)
				fmt.Fprintln(&all, repo, ref, raw, m.Digest, m.MediaType, m.PushedAt.Unix(), string(m.Raw), err)
			}
			if ref.IsDigest() {
				row, err := s.blobRow(t.Context(), name(repo), ref.Digest)
				fmt.Fprintln(&all, repo, ref, row, err)
			}
		}
		tags, err := s.Tags(t.Context(), name(repo), "", 10)
		fmt.Fprintln(&all, repo, tags, err)
	}
	names, err := s.Names(t.Context(), "", 10)
	fmt.Fprintln(&all, names, err)
	return all.String()
}

// TestCachedReads: after each kind of change reads say the same with what was cached before it as without.
func TestCachedReads(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	config, layer := mustPush(t, s, "a", "config"), mustPush(t, s, "a", "layer")
	one, two := imageOf(config, layer), imageOf(config)
	mustPut(t, s, "a", one, "v1", "v2")
	references := []oci.Reference{{Tag: tag("v1")}, {Tag: tag("v2")}, {Tag: tag("v3")}, {Digest: sum(one)}, {Digest: sum(two)}, {Digest: config}, {Digest: layer}}
	by := Actor{Name: "test"}
	for _, change := range []struct {
		name string
		make func() error
	}{
		{"a tag moves", func() error { return put(t, s, "a", two, "v1") }},
		{"a tag comes", func() error { return put(t, s, "a", two, "v3") }},
		{"a tag goes", func() error { return s.DeleteTag(t.Context(), name("a"), tag("v1"), Condition{}, by) }},
		{"a manifest goes", func() error { return s.DeleteManifest(t.Context(), name("a"), sum(one), Condition{}, by) }},
		{"a blob goes", func() error { return s.DeleteBlob(t.Context(), name("a"), layer, by) }},
		{"a blob comes", func() error { _, err := push(t, s, "a", []byte("layer")); return err }},
		{"a blob is mounted", func() error { return s.MountBlob(t.Context(), name("a"), name("b"), config) }},
		{"a repository comes", func() error { return put(t, s, "b", two, "v2") }},
		{"a lease is renewed", func() error { return s.renewLease(name("a"), layer) }},
		{"many repositories change", func() error {
			return s.change(anything, func(t *tx) error {
				_, err := t.exec(`DELETE FROM tags`)
				return err
			})
		}},
	} {
		before := observe(t, s, references)
		asked := s.Statements()
		if again := observe(t, s, references); again != before {
			t.Errorf("before %s: reads differ\n%s\n%s", change.name, before, again)
		}
		found := strings.Count(before, "<nil>")
		if n := s.Statements() - asked; n > int64(2*(strings.Count(before, "\n")-found)) {
			t.Errorf("before %s: %d statements for reads that were made a moment ago, %d of them found something", change.name, n, found)
		}
		if err := change.make(); err != nil {
			t.Fatalf("%s: %v", change.name, err)
		}
		cached := observe(t, s, references)
		s.cache.mu.Lock()
		s.cache.young, s.cache.old = nil, nil
		s.cache.mu.Unlock()
		s.lists.mu.Lock()
		s.lists.all, s.lists.size = nil, 0
		s.lists.mu.Unlock()
		if fresh := observe(t, s, references); cached != fresh {
			t.Errorf("%s: reads say\n%s\nand without what was cached\n%s", change.name, cached, fresh)
		}
		if cached == before && change.name != "a lease is renewed" {
			t.Errorf("%s, and no read shows it", change.name)
		}
	}
}

// TestGenerations: nothing is cached while a commit is on its way, nor afterwards from before, but for what the commit does
// not touch.
func TestGenerations(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	gs, c := &s.reads, &cache{}
	other := name("other")
	for i := 0; gs.number(other) == gs.number(name("a")); i++ {
		other = name(fmt.Sprint("other", i))
	}
	holds := func(n oci.Name) bool {
		_, ok := c.get(cacheKey{name: n}, gs.of(n))
		return ok
	}
	keep := func(n oci.Name) { c.put(cacheKey{name: n}, "value", 0, gs.of(n)) }
	for _, v := range []struct {
		scope             scope
		a, other, catalog bool // stay
	}{
		{anything, false, false, false},
		{within(name("a")), false, true, false},
		{aside, true, true, true},
	} {
		keep(name("a"))
		keep(other)
		names := gs.ofNames()
		end := gs.begin([]*operation{{scope: aside}, {scope: v.scope}, {scope: v.scope}})
		if holds(name("a")) != v.a || holds(other) != v.other {
			t.Errorf("%v: while it commits a is cached: %v, %s: %v", v.scope, holds(name("a")), other, holds(other))
		}
		keep(name("a")) // a read that began now may see either
		if holds(name("a")) != v.a {
			t.Errorf("%v: what was read while it commits is cached", v.scope)
		}
		end()
		if holds(name("a")) != v.a || holds(other) != v.other || (gs.ofNames() == names) != v.catalog {
			t.Errorf("%v: afterwards a is cached: %v, %s: %v, the catalog: %v", v.scope, holds(name("a")), other, holds(other), gs.ofNames() == names)
		}
		keep(name("a"))
		if !holds(name("a")) {
			t.Errorf("%v: nothing can be cached any more", v.scope)
		}
	}
}

// TestCacheSize: a cache keeps what was asked for lately, and no more than it may.
func TestCacheSize(t *testing.T) {
	var c cache
	const size = 10_000
	key := func(i int) cacheKey { return cacheKey{what: fmt.Sprint(i)} }
	c.put(key(-1), "too large", cacheEntry, generation{})
	if _, ok := c.get(key(-1), generation{}); ok {
		t.Error("an entry that is too large is kept")
	}
	for i := range 3 * cacheBytes / size {
		c.put(key(i), i, size, generation{})
		if _, ok := c.get(key(0), generation{}); !ok {
			t.Fatalf("what is asked for all the time is gone after %d", i)
		}
		if n := len(c.young) + len(c.old); n > cacheBytes/size+1 {
			t.Fatalf("%d entries of %d bytes after %d", n, size, i)
		}
	}
}

// TestCacheKeys: what is kept holds on to nothing of the request.
func TestCacheKeys(t *testing.T) {
	var c cache
	before := heapInUse()
	for i := range 100 {
		text := fmt.Sprint("name", i, "/", strings.Repeat("x", 1<<20))
		n, what, _ := strings.Cut(text, "/")
		c.put(cacheKey{name: name(n), what: what[:100]}, i, 0, generation{})
	}
	if _, ok := c.get(cacheKey{name: name("name99"), what: strings.Repeat("x", 100)}, generation{}); !ok {
		t.Error("an entry is not found")
	}
	if held := heapInUse() - before; held > 10<<20 {
		t.Errorf("100 entries hold %d bytes", held)
	}
	runtime.KeepAlive(&c)
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
