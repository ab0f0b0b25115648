package server

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// lightBytes is what an answer or a manifest may hold of memory without being counted.
	lightBytes = 64 << 10
	// answersBytes bounds what answers hold together that are made in memory: large manifests, lists and pages.
	answersBytes = 16 << 20
)

// answers are those made in memory that are being sent. When they hold too much, the one that has been sent for longest
// is cut: clients that do not read would hold all memory, and those that do have theirs soon.
type answers struct {
	mu      sync.Mutex // guards what follows
	bytes   int
	sending []*heldAnswer // the oldest first
}

type heldAnswer struct {
	bytes   int
	control *http.ResponseController
}

// begin counts an answer until end is called. Its write deadline must have been set.
func (a *answers) begin(bytes int, control *http.ResponseController) (end func()) {
	if bytes <= lightBytes {
		return func() {}
	}
	one := &heldAnswer{bytes, control}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += bytes
	a.sending = append(a.sending, one)
	for a.bytes > answersBytes && a.sending[0] != one {
		oldest := a.sending[0]
		a.remove(oldest)
		_ = oldest.control.SetWriteDeadline(time.Now()) // its Write fails
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.remove(one)
	}
}

// remove takes an answer out, if it is in.
func (a *answers) remove(one *heldAnswer) {
	if i := slices.Index(a.sending, one); i >= 0 {
		a.sending = slices.Delete(a.sending, i, i+1)
		a.bytes -= one.bytes
	}
}
