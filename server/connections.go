package server

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// A waiting is connections that ask for nothing at the moment.
type waiting struct {
	from map[string]*list.List // of net.Conn: by address, in the order in which they began to wait
	at   map[net.Conn]*list.Element
}

func (w *waiting) add(c net.Conn) {
	if w.from == nil {
		w.from, w.at = make(map[string]*list.List), make(map[net.Conn]*list.Element)
	}
	from := host(c)
	if w.from[from] == nil {
		w.from[from] = list.New()
	}
	w.at[c] = w.from[from].PushBack(c)
}

// remove takes a connection out, if it is in.
func (w *waiting) remove(c net.Conn) {
	e := w.at[c]
	if e == nil {
		return
	}
	from := host(c)
	w.from[from].Remove(e)
	if w.from[from].Len() == 0 {
		delete(w.from, from)
	}
	delete(w.at, c)
}

// first takes out the connection that has waited longest of those of the address that has most, and returns nil when
// there is none.
func (w *waiting) first() net.Conn {
	var most *list.List
	for _, of := range w.from {
		if most == nil || of.Len() > most.Len() {
			most = of
		}
	}
	if most == nil {
		return nil
	}
	c := most.Front().Value.(net.Conn)
	w.remove(c)
	return c
}

// host returns the address of a client without its port.
func host(c net.Conn) string {
	addr := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
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
