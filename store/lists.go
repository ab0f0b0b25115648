package store

import (
	"context"
	"database/sql"
	"slices"
	"sort"
	"strings"
	"sync"

	"cubby/store/oci"
)

const (
	// listsBytes bounds what lists keep.
	listsBytes = 4 << 20
	// runAhead is how many names are read at once of a list that is asked for again and again: of what a page costs
	// little is reading more.
	runAhead = 1000
	// runOverhead is about what a run takes beside its names.
	runOverhead = 200
)

// A run is names that follow each other in a list. As one text they take a third of the memory.
type run struct {
	after string   // what the first one follows
	text  string   // in byte order, with a space between
	ends  []uint32 // of each name in text
	whole bool     // nothing follows the last one
}

func newRun(after string, names []string, whole bool) *run {
	r := &run{after: strings.Clone(after), text: strings.Join(names, " "), ends: make([]uint32, 0, len(names)), whole: whole}
	end := 0
	for _, name := range names {
		end += len(name)
		r.ends = append(r.ends, uint32(end))
		end++ // the space
	}
	return r
}

func (r *run) name(i int) string {
	start := uint32(0)
	if i > 0 {
		start = r.ends[i-1] + 1
	}
	return r.text[start:r.ends[i]]
}

// next returns the n names after a text that is not before r.after, or fewer where the list ends. It is not ok when the
// run does not reach so far.
func (r *run) next(after string, n int) (names []string, ok bool) {
	first := sort.Search(len(r.ends), func(i int) bool { return r.name(i) > after })
	if len(r.ends)-first < n && !r.whole {
		return nil, false
	}
	names = make([]string, min(n, len(r.ends)-first))
	for i := range names {
		names[i] = r.name(first + i)
	}
	return names, true
}

func (r *run) size() int { return len(r.after) + len(r.text) + 4*len(r.ends) + runOverhead }

// A list is what was read of a list in one generation.
type list struct {
	at   generation
	runs []*run // in the order of what they follow
	size int    // bytes
}

// lists keep the lists of names that were read lately: of the tags of repositories, and of the repositories.
type lists struct {
	mu   sync.Mutex
	all  map[oci.Name]*list // guarded by mu; that of the repositories has the zero name
	size int                // guarded by mu; bytes
}

// find returns n names of a list after a text as they are now, or fewer where it ends; or else, with read > 0, how many
// names to read.
func (ls *lists) find(name oci.Name, now generation, after string, n int) (names []string, read int) {
	ls.mu.Lock()
	l := ls.all[name]
	if l == nil || l.at != now || !now.settled() {
		ls.mu.Unlock()
		return nil, n
	}
	i, exact := slices.BinarySearchFunc(l.runs, after, compareRun)
	if !exact {
		i--
	}
	var r *run
	if i >= 0 {
		r = l.runs[i]
	}
	ls.mu.Unlock()
	if r != nil {
		if names, ok := r.next(after, n); ok {
			return names, 0
		}
	}
	return nil, max(n, runAhead)
}

func compareRun(r *run, after string) int { return strings.Compare(r.after, after) }

// keep keeps what was read of a list. at was taken before the query.
func (ls *lists) keep(name oci.Name, at generation, r *run) {
	if !at.settled() || r.size() > listsBytes {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.all[name]
	if l != nil && l.at != at {
		ls.size -= l.size
		delete(ls.all, name)
		l = nil
	}
	if ls.all == nil || ls.size+r.size() > listsBytes {
		ls.all, ls.size, l = make(map[oci.Name]*list), 0, nil // what is asked for is soon here again
	}
	if l == nil {
		l = &list{at: at, size: runOverhead}
		ls.size += l.size
		ls.all[name.Clone()] = l
	}
	i, exact := slices.BinarySearchFunc(l.runs, r.after, compareRun)
	grown := r.size()
	if exact {
		grown -= l.runs[i].size()
		l.runs[i] = r
	} else {
		l.runs = slices.Insert(l.runs, i, r)
	}
	l.size += grown
	ls.size += grown
}

// names returns at most n names of a list after a text, in byte order; the zero name stands for the list of repositories.
// at was taken before. The query selects the list as name, and has as its last parameters the text and a number.
func (s *Store) names(ctx context.Context, list oci.Name, at generation, after string, n int, query string, args ...any) ([]string, error) {
	names, read := s.lists.find(list, at, after, n)
	if read == 0 {
		return names, nil
	}
	// As one row the names take a third of the time.
	var all sql.NullString
	if err := s.db.queryRow(ctx, `SELECT group_concat(name, ' ') FROM (`+query+`)`, append(args, after, read)...).Scan(&all); err != nil {
		return nil, err
	}
	if all.Valid {
		names = strings.Split(all.String, " ")
		slices.Sort(names) // they are in this order, but the function does not promise it
	}
	s.lists.keep(list, at, newRun(after, names, len(names) < read))
	return names[:min(n, len(names))], nil
}
