//go:build faults

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	slowConnections   = 3000
	serverConnections = 2000 // what a server keeps at most
	slowEvery         = 500 * time.Millisecond
)

// A stuckReader has read the beginning of an answer and no more.
type stuckReader struct {
	path     string
	response *http.Response
}

// startStuckReader asks for something through a connection that takes little before it is read.
func startStuckReader(ctx context.Context, url, path string) (*stuckReader, error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if told := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		}); told != nil {
			return told
		}
		return err
	}}
	transport := &http.Transport{DialContext: dialer.DialContext, ReadBufferSize: 512}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	response, err := transport.RoundTrip(must(http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return &stuckReader{path, response}, nil
}

// finish reads the rest.
func (r *stuckReader) finish() error {
	n, err := io.Copy(io.Discard, r.response.Body)
	if err == nil && n != r.response.ContentLength {
		err = fmt.Errorf("%d bytes of %d", n, r.response.ContentLength)
	}
	if err != nil {
		return fmt.Errorf("GET %s, slowly: %w", r.path, err)
	}
	return nil
}

// slowHeaders sends a byte of its header on each of many connections at times, and opens another for each that is
// closed.
func slowHeaders(ctx context.Context, v *victim) error {
	return drip(ctx, v, slowConnections, "GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
}

// slowBodies sends a byte of its body at times.
func slowBodies(ctx context.Context, v *victim) error {
	head := "Host: 127.0.0.1\r\nContent-Length: 4000000\r\n" + login[0] + ": " + login[1] + "\r\n\r\n"
	var running sync.WaitGroup
	defer running.Wait()
	for _, line := range []string{"POST /v2/team/slow/blobs/uploads/?digest=" + v.image.Names[0], "PUT /v2/team/slow/manifests/v1"} {
		running.Go(func() { _ = drip(ctx, v, slowConnections/6, line+" HTTP/1.1\r\n"+head) })
	}
	return nil
}

// drip opens connections, sends a beginning and then a byte at times.
func drip(ctx context.Context, v *victim, connections int, beginning string) error {
	var running sync.WaitGroup
	for range connections {
		running.Go(func() {
			for ctx.Err() == nil {
				// That it is refused or cut is what the server may do.
				_ = dripOne(ctx, v, beginning)
			}
		})
	}
	running.Wait()
	return nil
}

func dripOne(ctx context.Context, v *victim, beginning string) error {
	next := time.NewTicker(slowEvery)
	defer next.Stop()
	c, err := net.Dial("tcp", strings.TrimPrefix(v.s.URL, "http://"))
	for send := beginning; err == nil; send = "a" {
		if _, err = io.WriteString(c, send); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return c.Close()
		case <-next.C:
		}
	}
	if c != nil {
		c.Close()
	}
	select { // nor does an attacker dial without end
	case <-ctx.Done():
	case <-next.C:
	}
	return err
}

// slowReaders ask for what is large, and do not read it.
func slowReaders(ctx context.Context, v *victim) error {
	var running sync.WaitGroup
	var stuck atomic.Int64
	for i := range slowConnections / 12 {
		running.Go(func() {
			if _, err := startStuckReader(ctx, v.s.URL, v.large[i%len(v.large)]); err == nil {
				stuck.Add(1)
				<-ctx.Done()
			}
		})
	}
	running.Wait()
	if stuck.Load() == 0 {
		return errors.New("nobody was stuck")
	}
	return nil
}
