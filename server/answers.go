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
	bytes    int
	deadline *writeDeadline
}

// A writeDeadline is that of an answer. Once the answer is cut, nothing moves it.
type writeDeadline struct {
	control *http.ResponseController

	mu  sync.Mutex // guards what follows
	cut bool
}

// move gives the client time to take what is written next. Not every connection has deadlines (tests).
func (d *writeDeadline) move(in time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.cut {
		_ = d.control.SetWriteDeadline(time.Now().Add(in))
	}
}

// expire makes every Write fail, the one that waits and those that follow.
func (d *writeDeadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
	_ = d.control.SetWriteDeadline(time.Now())
}

// begin counts an answer until end is called.
func (a *answers) begin(bytes int, deadline *writeDeadline) (end func()) {
	if bytes <= lightBytes {
		return func() {}
	}
	one := &heldAnswer{bytes, deadline}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += bytes
	a.sending = append(a.sending, one)
	for a.bytes > answersBytes && a.sending[0] != one {
		oldest := a.sending[0]
		a.remove(oldest)
		oldest.deadline.expire()
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
