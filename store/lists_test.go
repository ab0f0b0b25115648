package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestLists: pages of a list, asked for in any order and of any length, are those of the database, and most of them take no
// statement while nothing changes.
func TestLists(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	config := mustPush(t, s, "a", "config")
	var tags []string
	for i := range 3 {
		some := make([]string, 900)
		for k := range some {
			some[k] = fmt.Sprintf("v%d", i*len(some)+k)
		}
		mustPut(t, s, "a", imageOf(config), some...)
		tags = append(tags, some...)
	}
	slices.Sort(tags)
	random := rand.New(rand.NewPCG(1, 2))
	check := func() {
		t.Helper()
		after, n := tags[random.IntN(len(tags))], 1+random.IntN(100)
		switch random.IntN(5) {
		case 0:
			after += "x" // between two
		case 1:
			after = ""
		case 2:
			n = 1 + random.IntN(len(tags)+10)
		}
		first, found := slices.BinarySearch(tags, after)
		if found {
			first++
		}
		want := tags[first:min(first+n, len(tags))]
		if got, err := s.Tags(t.Context(), name("a"), after, n); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d after %q: %d tags %.100q, %v; want %d", n, after, len(got), got, err, len(want))
		}
	}
	before := s.Statements()
	for range 1000 {
		check()
	}
	if asked := s.Statements() - before; asked > 100 { // a page may be empty, for which it is asked whether the repository is there
		t.Errorf("%d statements for 1000 pages of a list that did not change", asked)
	}
	for i := range 50 {
		victim := random.IntN(len(tags))
		if err := s.DeleteTag(t.Context(), name("a"), tag(tags[victim]), Condition{}, Actor{Name: "test"}); err != nil {
			t.Fatal(err)
		}
		tags = slices.Delete(tags, victim, victim+1)
		if i%2 == 0 {
			added := fmt.Sprintf("w%d", i)
			mustPut(t, s, "a", imageOf(config), added)
			at, _ := slices.BinarySearch(tags, added)
			tags = slices.Insert(tags, at, added)
		}
		for range 3 {
			check()
		}
	}
}

// TestListAhead: the first page of a list reads no more than itself, the next ones do.
func TestListAhead(t *testing.T) {
	var ls lists
	at := generation{}
	if _, read := ls.find(name("a"), at, "", 10); read != 10 {
		t.Errorf("reads %d for the first page", read)
	}
	ls.keep(name("a"), at, newRun("", []string{"a", "b"}, false))
	if names, read := ls.find(name("a"), at, "", 2); read != 0 || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("the same page: %q, reads %d", names, read)
	}
	if names, read := ls.find(name("a"), at, "a", 1); read != 0 || !slices.Equal(names, []string{"b"}) {
		t.Errorf("within the page: %q, reads %d", names, read)
	}
	if _, read := ls.find(name("a"), at, "b", 10); read != runAhead {
		t.Errorf("reads %d for the second page", read)
	}
	if _, read := ls.find(name("b"), at, "", 10); read != 10 {
		t.Errorf("reads %d for the first page of another list", read)
	}
	ls.keep(name("d"), at, newRun("", []string{"a"}, true))
	if names, read := ls.find(name("d"), at, "", 10); read != 0 || !slices.Equal(names, []string{"a"}) {
		t.Errorf("a list that is known to its end: %q, reads %d", names, read)
	}
	for _, later := range []generation{{all: 1}, {all: 2}, {one: 2}} {
		if names, read := ls.find(name("a"), later, "", 2); read != 2 {
			t.Errorf("at %v: %q, reads %d", later, names, read)
		}
	}
	// A query that took long comes with what was read before the commit after which the list was read.
	ls.keep(name("c"), generation{all: 2}, newRun("", []string{"a", "b"}, true))
	ls.keep(name("c"), at, newRun("a", []string{"old"}, true))
	if names, read := ls.find(name("c"), generation{all: 2}, "a", 1); read == 0 && !slices.Equal(names, []string{"b"}) {
		t.Errorf("what was read before a commit is in the list after it: %q", names)
	}
	ls.keep(name("a"), generation{all: 1}, newRun("", []string{"a", "b"}, true))
	if names, read := ls.find(name("a"), generation{all: 1}, "", 2); read != 2 {
		t.Errorf("what was read during a commit is kept: %q", names)
	}
}

// TestListsSize: lists keep no more than they may, whatever is asked for, and hold on to nothing of a request.
func TestListsSize(t *testing.T) {
	var ls lists
	before := heapInUse()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("tag%07d", i)
	}
	for i := range 2000 {
		request := fmt.Sprintf("after%05d/%s", i, strings.Repeat("x", 100_000))
		after, _, _ := strings.Cut(request, "/")
		at := generation{all: uint64(i / 1500 * 2)}
		for range 2 { // the second replaces the first
			ls.keep(name(fmt.Sprint("repo", i/10)), at, newRun(after, names, false))
		}
		if ls.size > listsBytes {
			t.Fatalf("%d bytes after %d", ls.size, i)
		}
		total := 0
		for _, l := range ls.all {
			total += runOverhead
			for _, r := range l.runs {
				total += r.size()
			}
		}
		if total != ls.size {
			t.Fatalf("%d bytes are counted as %d after %d", total, ls.size, i)
		}
	}
	if held := heapInUse() - before; held > 2*listsBytes {
		t.Errorf("%d bytes are held for %d", held, ls.size)
	}
	ls.keep(name("a"), generation{}, newRun("", []string{strings.Repeat("x", listsBytes)}, true))
	if ls.all[name("a")] != nil {
		t.Error("a run that is too large is kept")
	}
}
