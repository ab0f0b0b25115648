package store

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"cubby/store/oci"
)

// A scope says what an operation may change of what cached reads return: the zero scope anything.
type scope struct {
	bounded bool
	name    oci.Name // zero when bounded: nothing
}

// within returns the scope of an operation that changes what is in one repository.
func within(name oci.Name) scope { return scope{bounded: true, name: name} }

// anything is the scope of operations that change more than one repository, or that nobody thought about.
var anything = scope{}

// aside is the scope of operations on what no cached read returns, like uses, sessions and the audit log.
var aside = scope{bounded: true}

// scopes is how many numbers there are for the repositories.
const scopes = 256

// generations count commits, each number twice: before the COMMIT, so that it is odd while readers may see the old or
// the new, and after it, before anybody is answered. What was read in a generation that is still there, and even, is
// what a query would return now.
type generations struct {
	seed  maphash.Seed
	all   atomic.Uint64         // commits of any scope
	some  atomic.Uint64         // commits that are not aside
	named [scopes]atomic.Uint64 // commits within repositories, by the hash of their names
}

// A generation is when something was read.
type generation struct{ all, one uint64 }

func (g generation) settled() bool { return g.all%2 == 0 && g.one%2 == 0 }

// of returns the generation of a repository.
func (gs *generations) of(name oci.Name) generation {
	return generation{gs.all.Load(), gs.named[gs.number(name)].Load()}
}

// ofNames returns the generation of the list of repositories.
func (gs *generations) ofNames() generation { return generation{gs.all.Load(), gs.some.Load()} }

func (gs *generations) number(name oci.Name) uint64 {
	return maphash.String(gs.seed, name.String()) % scopes
}

// begin is called before the COMMIT of a group, by the writer alone; what it returns after it, whatever came of it.
func (gs *generations) begin(group []*operation) (end func()) {
	counters := make(map[*atomic.Uint64]bool)
	for _, op := range group {
		switch {
		case !op.scope.bounded:
			counters[&gs.all] = true
		case op.scope != aside:
			counters[&gs.named[gs.number(op.scope.name)]] = true
			counters[&gs.some] = true
		}
	}
	count := func() {
		for c := range counters {
			c.Add(1)
		}
	}
	count()
	return count
}

const (
	// cacheBytes bounds what a cache holds, as far as it is told the sizes.
	cacheBytes = 4 << 20
	// cacheEntry bounds one entry: a few large ones would drive out all others.
	cacheEntry = 64 << 10
	// cacheOverhead is about what an entry takes beside its value.
	cacheOverhead = 300
)

// A cacheKey is a question that was asked.
type cacheKey struct {
	kind cacheKind
	name oci.Name
	what string
}

type cacheKind uint8

const (
	cachedManifest cacheKind = iota
	cachedHead               // a manifest without its bytes
	cachedBlob
)

type cached struct {
	value any
	size  int
	at    generation
}

// A cache holds answers that were given lately. It has two halves: when the young one is full it becomes the old one,
// and what nobody asked for since it was old is gone. Values are shared: nobody changes them.
type cache struct {
	mu         sync.Mutex
	young, old map[cacheKey]cached // guarded by mu
	size       int                 // bytes of young
}

// get returns what was put in the generation that is now.
func (c *cache) get(key cacheKey, now generation) (any, bool) {
	if !now.settled() {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.young[key]
	if !ok {
		if e, ok = c.old[key]; ok && e.at == now {
			c.add(key, e)
		}
	}
	return e.value, ok && e.at == now
}

// put keeps what was read. at was taken before the query.
func (c *cache) put(key cacheKey, value any, size int, at generation) {
	if size += cacheOverhead + len(key.name.String()) + len(key.what); size > cacheEntry || !at.settled() {
		return
	}
	// They may be parts of a request's text, which is much larger and would stay with them.
	key.name, key.what = key.name.Clone(), strings.Clone(key.what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, cached{value, size, at})
}

// add puts an entry into the young half. The caller holds mu.
func (c *cache) add(key cacheKey, e cached) {
	if c.young == nil || c.size+e.size > cacheBytes/2 {
		c.young, c.old, c.size = make(map[cacheKey]cached), c.young, 0
	}
	c.size += e.size - c.young[key].size
	c.young[key] = e
}

// cachedRead returns the answer to a question: from the cache, or from query and then its size in bytes too.
// It is of the generation at, which the caller took.
func cachedRead[T any](s *Store, key cacheKey, at generation, query func() (value T, size int, err error)) (T, error) {
	if v, ok := s.cache.get(key, at); ok {
		return v.(T), nil
	}
	v, size, err := query()
	if err == nil {
		s.cache.put(key, v, size, at)
	}
	return v, err
}
