// Command clients does for scripts/clients.sh what a shell cannot do well.
//
//	clients cut up|down BYTES ADDRESS   a TCP proxy that breaks one connection
//	clients zip DIRECTORY               the directory as a zip file, on standard output
package main

import (
	"archive/zip"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "cut" && (args[1] == "up" || args[1] == "down"):
		limit, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		c := &cutter{to: args[3], up: args[1] == "up", limit: limit, out: os.Stdout}
		return c.serve(l)
	case len(args) == 2 && args[0] == "zip":
		w := zip.NewWriter(os.Stdout)
		if err := w.AddFS(os.DirFS(args[1])); err != nil {
			return err
		}
		return w.Close()
	}
	return fmt.Errorf("usage: clients cut up|down BYTES ADDRESS | clients zip DIRECTORY")
}

// A cutter forwards TCP connections to one address and breaks the first that
// carries more than limit bytes up (to the server) or down (to the client).
// It writes "cut" to out when it has; later connections are left alone.
type cutter struct {
	to    string
	up    bool
	limit int64
	out   io.Writer

	cut atomic.Bool
}

func (c *cutter) serve(l net.Listener) error {
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go c.forward(client.(*net.TCPConn))
	}
}

func (c *cutter) forward(client *net.TCPConn) {
	defer client.Close()
	conn, err := net.Dial("tcp", c.to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()

	done := make(chan struct{}, 2)
	pipe := func(dst, src *net.TCPConn, watched bool) {
		defer func() { done <- struct{}{} }()
		if watched {
			n, _ := io.CopyN(dst, src, c.limit)
			if n == c.limit && c.cut.CompareAndSwap(false, true) {
				client.Close()
				server.Close()
				fmt.Fprintln(c.out, "cut")
				return
			}
		}
		io.Copy(dst, src)
		dst.CloseWrite()
	}
	go pipe(server, client, c.up)
	go pipe(client, server, !c.up)
	<-done
	<-done
}
