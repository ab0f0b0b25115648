package main

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// TestCutter sends the same bytes twice through a cutter: the first connection
// breaks at the limit, the second carries them all.
func TestCutter(t *testing.T) {
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	got := make(chan int64)
	go func() {
		for {
			conn, err := sink.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, conn)
			conn.Close()
			got <- n
		}
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const limit, size = 100 << 10, 1 << 20
	out := new(bytes.Buffer)
	c := &cutter{to: sink.Addr().String(), up: true, limit: limit, out: out}
	go c.serve(l)

	send := func() int64 {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(make([]byte, size)); err == nil {
			conn.(*net.TCPConn).CloseWrite()
		}
		return <-got
	}
	if n := send(); n > limit {
		t.Errorf("first connection carried %d bytes, want at most %d", n, limit)
	}
	if n := send(); n != size {
		t.Errorf("second connection carried %d bytes, want %d", n, size)
	}
	if !c.cut.Load() {
		t.Error("nothing was cut")
	}
}
