package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
)

// A conn is a client with one connection. It costs a fraction of net/http's, so that on the server's own cores it is
// the server that is measured. It knows what the workloads need: no redirects, no compression, no trailers.
type conn struct {
	addr  string
	c     net.Conn
	r     *bufio.Reader
	write []byte // the request that is being sent
	drain []byte
}

// An answer is what came back. Its body was read and counted, and is kept only if it was asked for.
type answer struct {
	status   int
	location string
	bytes    int64
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{addr: addr, c: c, r: bufio.NewReaderSize(c, 64<<10), drain: make([]byte, 256<<10)}, nil
}

func (c *conn) close() { c.c.Close() }

// do sends a request and reads the answer. The header lines each end with CRLF.
func (c *conn) do(method, path, header string, body []byte) (a answer, err error) {
	w := append(c.write[:0], method...)
	w = append(w, ' ')
	w = append(w, path...)
	w = append(w, " HTTP/1.1\r\nHost: "...)
	w = append(w, c.addr...)
	w = append(w, "\r\n"...)
	w = append(w, header...)
	if method == "PUT" || method == "POST" {
		w = append(w, "Content-Length: "...)
		w = strconv.AppendInt(w, int64(len(body)), 10)
		w = append(w, "\r\n"...)
	}
	w = append(w, "\r\n"...)
	c.write = w
	buffers := net.Buffers{w, body}
	if _, err := buffers.WriteTo(c.c); err != nil {
		return a, err
	}
	return c.read(method)
}

var errClosed = errors.New("the server closes the connection")

func (c *conn) read(method string) (a answer, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return a, fmt.Errorf("answer begins with %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("answer begins with %q", line)
	}
	length, chunked, closes := int64(-1), false, false
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return a, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch len(name) {
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
					return a, err
				}
			}
		case len("Location"):
			if bytes.EqualFold(name, []byte("Location")) {
				a.location = string(value)
			}
		case len("Connection"):
			closes = closes || bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close"))
		case len("Transfer-Encoding"):
			chunked = chunked || bytes.EqualFold(name, []byte("Transfer-Encoding"))
		}
	}
	switch {
	case method == "HEAD" || a.status == 204 || a.status == 304:
	case chunked:
		a.bytes, err = io.CopyBuffer(io.Discard, httputil.NewChunkedReader(c.r), c.drain)
		if err == nil {
			_, err = c.r.Discard(len("\r\n"))
		}
	default:
		a.bytes, err = c.discard(length)
	}
	if err == nil && closes {
		err = errClosed // the workloads send nothing that should lead to it
	}
	return a, err
}

// discard reads a body of n bytes and forgets it.
func (c *conn) discard(n int64) (int64, error) {
	for left := n; left > 0; {
		if c.r.Buffered() == 0 && left >= int64(len(c.drain)) {
			m, err := c.c.Read(c.drain) // past the small buffer
			left -= int64(m)
			if err != nil {
				return n - left, err
			}
			continue
		}
		if c.r.Buffered() == 0 {
			if _, err := c.r.Peek(1); err != nil {
				return n - left, err
			}
		}
		m, err := c.r.Discard(int(min(left, int64(c.r.Buffered()))))
		left -= int64(m)
		if err != nil {
			return n - left, err
		}
	}
	return max(n, 0), nil
}
