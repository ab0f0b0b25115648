package server

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestConnectionsMax: when one address has too many, first those that have not asked yet go, then those that are idle, the
// oldest first, and none that is being answered.
func TestConnectionsMax(t *testing.T) {
	const rest = " HTTP/1.1\r\nHost: a\r\n\r\n"
	asked, hold := make(chan struct{}), make(chan struct{})
	srv := HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			asked <- struct{}{}
			<-hold
		}
	}), slog.New(slog.DiscardHandler))
	srv.ReadHeaderTimeout = time.Hour // so that it is not what ends the slow one
	states := make(chan http.ConnState, 100)
	limit := &connections{most: 3}
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		limit.changed(c, state)
		states <- state
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(listener)
	t.Cleanup(func() { srv.Close() })
	open := func(send string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, send) // it may be closed already
		return c
	}
	openAndHold := func() net.Conn {
		t.Helper()
		c := open("GET /hold" + rest)
		select {
		case <-asked:
		case <-time.After(10 * time.Second):
			t.Fatal("a request was not answered")
		}
		return c
	}
	openUntil := func(send string, want http.ConnState) net.Conn {
		t.Helper()
		c := open(send)
		for {
			select {
			case got := <-states:
				if got == want {
					return c
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no connection became %v", want)
			}
		}
	}
	wantClosed := func(what string, c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatalf("%s is still open", what)
			}
		}
	}
	held := openAndHold()
	idle := openUntil("GET /"+rest, http.StateIdle)
	slow := openUntil("GET / HTTP/1.1\r\n", http.StateNew)
	second := openAndHold()
	wantClosed("a connection that has not asked", slow)
	third := openAndHold()
	wantClosed("an idle connection", idle)
	wantClosed("one more than can be answered", open("GET /"+rest))
	close(hold)
	for _, c := range []net.Conn{held, second, third} {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if response, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("a request that was being answered: %v, %v", response, err)
		}
	}
}

// An addressed is a connection from an address.
type addressed struct {
	net.Conn
	from string
}

func (a *addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(a.from), Port: 1} }

// TestWaiting: who has many connections that wait loses them first, the oldest first.
func TestWaiting(t *testing.T) {
	one := &addressed{from: "192.0.2.1"}
	many := []*addressed{{from: "192.0.2.2"}, {from: "192.0.2.2"}, {from: "192.0.2.2"}, {from: "192.0.2.2"}}
	var w waiting
	w.add(one, http.StateNew)
	for _, c := range many {
		w.add(c, http.StateNew)
	}
	w.remove(many[1])
	w.remove(many[1])
	for i, want := range []*addressed{many[0], many[2]} {
		if got := w.first(); got != want {
			t.Errorf("%d: got %v, want %v", i, got, want)
		}
	}
	if a, b := w.first(), w.first(); a == nil || b == nil || a == b || w.first() != nil || len(w.at)+len(w.from) != 0 {
		t.Errorf("in the end: %v, %v, %d, %d", a, b, len(w.at), len(w.from))
	}
}

// TestConnectionsOfOne: who has most of all that wait loses first, of those first what has not asked. An IPv6 network is one.
func TestConnectionsOfOne(t *testing.T) {
	const greedy, other, third = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	type addresses = []string
	for _, test := range []struct {
		name        string
		begun, idle addresses // in the order in which they came
		idles       bool      // the one that goes is idle
		at          int       // its place among those
	}{
		{"idle ones of one address before one that begins", addresses{other}, addresses{third, greedy, greedy}, true, 1},
		{"both kinds count together", addresses{other, other, greedy}, addresses{greedy, greedy}, false, 2},
		{"begun before idle of one address", addresses{greedy, greedy}, addresses{greedy, greedy, greedy}, false, 0},
		{"begun before idle of addresses with as many", addresses{other}, addresses{greedy}, false, 0},
		{"one IPv6 network", addresses{other}, addresses{third, "2001:db8::1", "2001:db8::ffff:2"}, true, 1},
		{"two IPv6 networks", addresses{other}, addresses{"2001:db8::1", "2001:db8:0:1::1"}, false, 0},
		{"IPv4 is not a network", addresses{"192.0.2.1"}, addresses{"192.0.2.2", "::ffff:192.0.2.3"}, false, 0},
		{"IPv4 in IPv6 is the same address", addresses{other}, addresses{third, greedy, "::ffff:" + greedy}, true, 1},
	} {
		l := &connections{most: len(test.begun) + len(test.idle)}
		open := func(addresses addresses, idle bool) (opened []net.Conn) {
			for _, from := range addresses {
				c := &addressed{from: from}
				opened = append(opened, c)
				l.note(c, http.StateNew)
				if idle {
					l.note(c, http.StateActive)
					l.note(c, http.StateIdle)
				}
			}
			return opened
		}
		begun, idle := open(test.begun, false), open(test.idle, true)
		want := begun
		if test.idles {
			want = idle
		}
		if got := l.note(&addressed{from: "198.51.100.1"}, http.StateNew); got != want[test.at] {
			t.Errorf("%s: %v goes of begun %v, idle %v", test.name, got, test.begun, test.idle)
		}
	}
}
