package server

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"cubby/server/auth"
)

// A waiting is connections of which some ask for nothing at the moment.
type waiting struct {
	from map[string]*peer // by address
	at   map[net.Conn]*place
}

// A peer is the connections of one address that wait, in the order in which they began to.
type peer struct {
	address string
	open    int       // places that it has
	begun   list.List // of net.Conn: have not sent the whole header of a first request
	idle    list.List // of net.Conn: between requests
}

// A place is where a connection is: it is kept from request to request, because to find it takes the address as a text.
type place struct {
	peer    *peer
	element *list.Element // nil while it does not wait
}

// rank orders addresses: who has more connections that wait loses one before others, and of those with as many who has
// one that has not asked.
func (p *peer) rank() int { return 2*(p.begun.Len()+p.idle.Len()) + min(p.begun.Len(), 1) }

// add begins the waiting of a connection, which is http.StateNew or http.StateIdle.
func (w *waiting) add(c net.Conn, state http.ConnState) {
	if w.from == nil {
		w.from, w.at = make(map[string]*peer), make(map[net.Conn]*place)
	}
	w.pause(c)
	at := w.at[c]
	if at == nil {
		address := host(c)
		p := w.from[address]
		if p == nil {
			p = &peer{address: address}
			w.from[address] = p
		}
		p.open++
		at = &place{peer: p}
		w.at[c] = at
	}
	if state == http.StateIdle {
		at.element = at.peer.idle.PushBack(c)
	} else {
		at.element = at.peer.begun.PushBack(c)
	}
}

// pause ends the waiting of a connection that may wait again.
func (w *waiting) pause(c net.Conn) {
	if at := w.at[c]; at != nil && at.element != nil {
		at.peer.begun.Remove(at.element) // nothing happens where it is not in
		at.peer.idle.Remove(at.element)
		at.element = nil
	}
}

// remove takes a connection out, if it is in.
func (w *waiting) remove(c net.Conn) {
	at := w.at[c]
	if at == nil {
		return
	}
	w.pause(c)
	delete(w.at, c)
	if at.peer.open--; at.peer.open == 0 {
		delete(w.from, at.peer.address)
	}
}

// first takes out a connection of the address that has most, the one that has waited longest of those that have not asked
// or else of those that are idle, and returns nil when there is none.
func (w *waiting) first() net.Conn {
	var most *peer
	for _, p := range w.from {
		if p.rank() > 0 && (most == nil || p.rank() > most.rank()) {
			most = p
		}
	}
	if most == nil {
		return nil
	}
	e := most.begun.Front()
	if e == nil {
		e = most.idle.Front()
	}
	c := e.Value.(net.Conn)
	w.remove(c)
	return c
}

// host returns what stands for the address of a client, without its port.
func host(c net.Conn) string {
	addr := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return auth.AddressKey(host)
	}
	return addr
}

// connections bounds how many are open: for each that is too many, one is closed that nobody would miss, or else that
// one. So clients that connect and ask for nothing, or very slowly, keep nobody out.
type connections struct {
	most int

	mu      sync.Mutex // guards what follows
	open    int
	waiting waiting
}

// changed is the ConnState of an http.Server.
func (l *connections) changed(c net.Conn, state http.ConnState) {
	drop := l.note(c, state)
	if t, ok := drop.(*tls.Conn); ok {
		drop = t.NetConn() // its own Close would wait for the client to read
	}
	if drop != nil {
		drop.Close() // the state becomes StateClosed
	}
}

// note takes note of a change and returns the connection to close, or nil.
func (l *connections) note(c net.Conn, state http.ConnState) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		l.open++
		if l.open > l.most {
			drop := l.waiting.first()
			if drop == nil {
				return c
			}
			l.waiting.add(c, state)
			return drop
		}
		l.waiting.add(c, state)
	case http.StateActive:
		l.waiting.pause(c)
	case http.StateIdle:
		l.waiting.add(c, state)
	case http.StateClosed, http.StateHijacked:
		l.waiting.remove(c)
		l.open--
	}
	return nil
}
