package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
)

// plainLimit is the largest file that the plain server holds in memory, in bytes.
const plainLimit = 1 << 20

func plainContenderCommand(addr, dir string) ([]string, error) {
	self, err := os.Executable()
	return []string{self, "plain", addr, dir}, err
}

// plainCommand serves the files of a directory with what Cubby's server is made of, net/http, and does nothing else: small
// ones come from memory, with the headers that a registry sets. It is the limit of servers that use it.
func plainCommand(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("plain takes an address and a directory")
	}
	var held sync.Map // of []byte, by path
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(args[1], filepath.FromSlash(path.Clean("/"+r.URL.Path)))
		content, ok := held.Load(name)
		if !ok {
			if info, err := os.Stat(name); err != nil || info.IsDir() || info.Size() > plainLimit {
				http.ServeFile(w, r, name)
				return
			}
			raw, err := os.ReadFile(name)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			content, _ = held.LoadOrStore(name, raw)
		}
		h := w.Header()
		h.Set("Docker-Distribution-Api-Version", "registry/2.0")
		h.Set("Content-Type", manifestType)
		h.Set("Content-Length", strconv.Itoa(len(content.([]byte))))
		h.Set("Docker-Content-Digest", filepath.Base(name))
		h.Set("Etag", filepath.Base(name))
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(content.([]byte)) // the client has gone
	})}
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}
