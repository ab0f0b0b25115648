package server

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// A waiting is connections that ask for nothing at the moment, in the order in which they stopped to.
type waiting struct {
	order list.List // of net.Conn
	at    map[net.Conn]*list.Element
}

func (w *waiting) add(c net.Conn) {
	if w.at == nil {
		w.at = make(map[net.Conn]*list.Element)
	}
	w.at[c] = w.order.PushBack(c)
}

// remove takes a connection out, if it is in.
func (w *waiting) remove(c net.Conn) {
	if e := w.at[c]; e != nil {
		w.order.Remove(e)
		delete(w.at, c)
	}
}

// first takes out the connection that has waited longest, and returns nil when there is none.
func (w *waiting) first() net.Conn {
	e := w.order.Front()
	if e == nil {
		return nil
	}
	c := e.Value.(net.Conn)
	w.remove(c)
	return c
}

// connections bounds how many are open: for each that is too many, one is closed that nobody would miss, or else that
// one. So clients that connect and ask for nothing, or very slowly, keep nobody out.
type connections struct {
	most int

	mu    sync.Mutex // guards what follows
	open  int
	begun waiting // have not sent the whole header of a first request
	idle  waiting // between requests
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
	l.begun.remove(c)
	l.idle.remove(c)
	switch state {
	case http.StateNew:
		l.open++
		if l.open > l.most {
			drop := l.begun.first()
			if drop == nil {
				drop = l.idle.first()
			}
			if drop == nil {
				return c
			}
			l.begun.add(c)
			return drop
		}
		l.begun.add(c)
	case http.StateIdle:
		l.idle.add(c)
	case http.StateClosed, http.StateHijacked:
		l.open--
	}
	return nil
}
