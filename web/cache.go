package web

import (
	"container/list"
	"sync"
)

// A cache keeps what was made from content, up to a number of bytes; what was not asked for longest goes first. It says
// nothing of who may see it: whoever asks has checked that. It is safe for concurrent use.
type cache[K comparable, V any] struct {
	max int64 // bytes

	mu    sync.Mutex
	used  int64               // guarded by mu
	order list.List           // guarded by mu; of *cached[K, V], the last asked for first
	at    map[K]*list.Element // guarded by mu
}

type cached[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newCache[K comparable, V any](max int64) *cache[K, V] {
	return &cache[K, V]{max: max, at: make(map[K]*list.Element)}
}

// get returns what is kept for a key.
func (c *cache[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[K, V]).value, true
}

// put keeps a value that takes cost bytes, instead of what was kept for its key, and reports whether it does: what takes more
// than there is for all is not kept.
func (c *cache[K, V]) put(key K, value V, cost int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.at[key]; ok {
		c.drop(e)
	}
	if cost > c.max {
		return false
	}
	c.at[key] = c.order.PushFront(&cached[K, V]{key, value, cost})
	for c.used += cost; c.used > c.max; {
		c.drop(c.order.Back())
	}
	return true
}

// drop removes an element. The caller holds mu.
func (c *cache[K, V]) drop(e *list.Element) {
	v := c.order.Remove(e).(*cached[K, V])
	delete(c.at, v.key)
	c.used -= v.cost
}

// madeWaiting is how many of one viewer may wait for something to be made.
const madeWaiting = 8

// made returns what the cache has for a key, or makes it: one thing at a time, viewers by turns.
func made[T any](h *Handler, r *request, key string, how func() (v T, size int64, err error)) (T, error) {
	if v, ok := h.cache.get(key); ok {
		return v.(T), nil
	}
	var none T
	done, err := h.makes.take(r.Context(), r.who.Quota())
	if err != nil {
		return none, err
	}
	defer done()
	if v, ok := h.cache.get(key); ok { // made while this one waited
		return v.(T), nil
	}
	v, size, err := how()
	if err != nil {
		return none, err
	}
	if size >= 0 {
		h.cache.put(key, v, size)
	}
	return v, nil
}

// cacheMax bounds the bytes of all that is kept.
const cacheMax = 32 << 20
