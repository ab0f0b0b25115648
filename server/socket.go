package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cubby/store"
)

// socketName is the admin socket in the data directory, mode 0600.
const socketName = "cubby.sock"

// socketMax is the longest path that fits a socket address on every system.
const socketMax = 100

// socketAddress returns a path for bind and connect. A long one goes through a descriptor of the directory, which the
// caller closes after use.
func socketAddress(dir string) (path string, closer io.Closer, err error) {
	path = filepath.Join(dir, socketName)
	if len(path) <= socketMax {
		return path, io.NopCloser(nil), nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), d, nil
}

// ListenAdmin listens on the admin socket. The caller owns the data directory (its lock), so a socket that is there is
// stale. The process's umask must keep the socket from others.
func ListenAdmin(dir string) (net.Listener, error) {
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, closer, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// With /proc/self/fd the name is not valid later on; the next owner removes the socket.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, os.Chmod(filepath.Join(dir, socketName), 0o600)
}

// adminRetry is how long a command waits for an owner that has the lock but does not answer yet, or no longer.
const adminRetry = 10 * time.Second

// A CommandError is the failure of an administrative command, as the handler told it.
type CommandError struct {
	Message string
	Refused bool
}

func (e *CommandError) Error() string { return e.Message }

// Command runs an administrative command on the store in dir and calls each for its events until one returns an error.
// If a server owns the directory it runs there, through the socket; otherwise this process takes the lock, opens the
// store, and runs the handler that admin makes, which is the server's.
func Command(ctx context.Context, dir string, admin func(*store.Store) http.Handler, method, path string, params url.Values, each func(Event) error) error {
	deadline := time.Now().Add(adminRetry)
	for {
		r, err := commandRequest(ctx, method, path, params)
		if err != nil {
			return err
		}
		response, err := askServer(r, dir)
		if err == nil {
			defer response.Body.Close()
			return readEvents(response.Body, each)
		}
		asked := err
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("admin socket in %s: %w", dir, err)
		}
		// Whatever the socket is, it is stale when the lock is free.
		st, err := store.Open(ctx, store.Options{Dir: dir, Role: store.RoleAdmin})
		if err == nil {
			defer st.Close()
			if r, err = commandRequest(ctx, method, path, params); err != nil {
				return err
			}
			return runHere(r, admin(st), each)
		}
		if errors.Is(err, store.ErrLocked) && errors.Is(asked, fs.ErrPermission) {
			return fmt.Errorf("admin socket in %s: %w", dir, asked)
		}
		// The owner is just starting or stopping.
		if !errors.Is(err, store.ErrLocked) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// commandRequest makes the request of a command, for one try: a body can be read once.
func commandRequest(ctx context.Context, method, path string, params url.Values) (*http.Request, error) {
	if method == http.MethodGet {
		return http.NewRequestWithContext(ctx, method, "http://cubby"+path+"?"+params.Encode(), nil)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://cubby"+path, strings.NewReader(params.Encode()))
	if err == nil {
		r.Header.Set(headerContentType, "application/x-www-form-urlencoded")
	}
	return r, err
}

func askServer(r *http.Request, dir string) (*http.Response, error) {
	path, closer, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}
	return transport.RoundTrip(r)
}

// runHere serves the request from this process's own store.
func runHere(r *http.Request, admin http.Handler, each func(Event) error) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		admin.ServeHTTP(&pipeResponse{header: make(http.Header), w: writer}, r.WithContext(ctx))
		writer.Close()
	}()
	err := readEvents(reader, each)
	// The handler must have ended before the store is closed.
	cancel()
	reader.Close()
	<-done
	return err
}

// A pipeResponse is a ResponseWriter for a handler in the same process.
type pipeResponse struct {
	header http.Header
	w      io.Writer
}

func (p *pipeResponse) Header() http.Header         { return p.header }
func (p *pipeResponse) WriteHeader(int)             {}
func (p *pipeResponse) Write(b []byte) (int, error) { return p.w.Write(b) }

// eventMax bounds one line: a check report with all its problems.
const eventMax = 16 << 20

func readEvents(r io.Reader, each func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, eventMax)
	for lines.Scan() {
		var e Event
		if err := json.NewDecoder(bytes.NewReader(lines.Bytes())).Decode(&e); err != nil {
			return fmt.Errorf("answer of the server: %w (is it another version?)", err)
		}
		switch {
		case e.Error != nil:
			return &CommandError{Message: e.Error.Message, Refused: e.Error.Refused}
		case e.Done:
			return nil
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	return errors.New("the server stopped before the command was done")
}
