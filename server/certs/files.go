package certs

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fileMax     = 1 << 20 // bytes
	reloadEvery = 2 * time.Second
)

// files are a certificate and its key that are read again when they change. What cannot be read, is invalid, or does
// not belong together changes nothing: the pair of before stays.
type files struct {
	cert, key string // paths
	log       *slog.Logger

	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex
	seen    [2][]byte // guarded by mu; as they were last read, valid or not
	problem error     // guarded by mu; why what they hold is not in use
}

func openFiles(cert, key string, log *slog.Logger) (*files, error) {
	f := &files{log: log}
	var err error
	if f.cert, err = filepath.Abs(cert); err != nil {
		return nil, err
	}
	if f.key, err = filepath.Abs(key); err != nil {
		return nil, err
	}
	if f.reload(); f.problem != nil {
		return nil, f.problem
	}
	return f, nil
}

func (f *files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}

// reload reads the files again and tells the log what came of it, if there is something new.
func (f *files) reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.read()
	if err == nil && bytes.Equal(seen[0], f.seen[0]) && bytes.Equal(seen[1], f.seen[1]) {
		return
	}
	f.seen = seen
	var pair tls.Certificate
	if err == nil {
		if pair, err = tls.X509KeyPair(seen[0], seen[1]); err != nil {
			err = fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
		}
	}
	before := f.problem
	f.problem = err
	switch {
	case err == nil:
		f.current.Store(&pair)
		f.log.Info("certificate taken over", "file", f.cert, "names", subjects(pair.Leaf), "until", pair.Leaf.NotAfter)
		if time.Now().After(pair.Leaf.NotAfter) {
			f.log.Warn("certificate has expired", "file", f.cert, "until", pair.Leaf.NotAfter)
		}
	case f.current.Load() != nil && (before == nil || before.Error() != err.Error()):
		f.log.Error("certificate not taken over, the one before stays in use", "err", err)
	}
}

// read returns certificate and key as they are; nothing of them on an error, so that the next read is a new one.
func (f *files) read() (seen [2][]byte, err error) {
	for i, path := range []string{f.cert, f.key} {
		if seen[i], err = readFile(path); err != nil {
			return [2][]byte{}, fmt.Errorf("certificate: %w", err)
		}
	}
	return seen, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err == nil && len(content) > fileMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, fileMax)
	}
	return content, err
}
