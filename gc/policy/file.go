package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fileMax bounds a file in bytes.
const fileMax = 1 << 20

// Load reads a policy from a file. An error tells what to do; warnings are for people.
func Load(path string) (p *Policy, warnings []string, err error) {
	text, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return parseFile(path, text)
}

func parseFile(path string, text []byte) (*Policy, []string, error) {
	p, warnings, err := Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, warnings, nil
}

func read(path string) ([]byte, error) {
	// What is no plain file could block for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration: %s is not a plain file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(text) > fileMax {
		return nil, fmt.Errorf("%s: %w: it is larger than %d bytes", path, ErrInvalid, fileMax)
	}
	return text, nil
}

// A File is a policy that is read again when its file changes. What cannot be read or is invalid changes nothing: the
// policy of before stays in force. It is safe for concurrent use.
type File struct {
	path string
	log  *slog.Logger

	current atomic.Pointer[Policy]
	problem atomic.Pointer[error] // why what the file says now is not in force; nil when it is

	mu   sync.Mutex
	text []byte // guarded by mu; as it was last judged, valid or not; nil when it could not be read
}

// Open reads a policy that is to be kept up to date with Watch or Reload.
func Open(path string, log *slog.Logger) (*File, error) {
	f := &File{path: path, log: log}
	var err error
	if f.text, err = read(path); err != nil {
		return nil, err
	}
	p, warnings, err := parseFile(path, f.text)
	if err != nil {
		return nil, err
	}
	f.current.Store(p)
	log.Info("configuration", f.facts()...)
	f.warn(warnings)
	return f, nil
}

// facts are what the log tells about the policy in force.
func (f *File) facts() []any {
	keep, protected, immutable, retention := f.Policy().Counts()
	return []any{"file", f.path, "retention", retention, "protected", protected, "immutable", immutable, "keep", keep}
}

// Path returns the path of the file.
func (f *File) Path() string { return f.path }

// Policy returns what is in force.
func (f *File) Policy() *Policy { return f.current.Load() }

// Problem returns why what the file says now is not in force, or nil.
func (f *File) Problem() error {
	if err := f.problem.Load(); err != nil {
		return *err
	}
	return nil
}

// Reload reads the file again and tells the log what came of it, if there is something new.
func (f *File) Reload() (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := read(f.path)
	before := f.Problem()
	if err == nil {
		if f.text != nil && bytes.Equal(text, f.text) {
			return false
		}
		f.text = text
		var p *Policy
		var warnings []string
		if p, warnings, err = parseFile(f.path, text); err == nil {
			f.current.Store(p)
			f.problem.Store(nil)
			f.log.Info("configuration taken over", f.facts()...)
			f.warn(warnings)
			return true
		}
	}
	if !errors.Is(err, ErrInvalid) || text == nil {
		f.text = nil
	}
	f.problem.Store(&err)
	changed = before == nil || before.Error() != err.Error()
	if changed {
		f.log.Error("configuration not taken over, the one before stays in force", "file", f.path, "err", err)
	}
	return changed
}

func (f *File) warn(warnings []string) {
	for _, w := range warnings {
		f.log.Warn("configuration", "file", f.path, "warning", w)
	}
}

// watchEvery is how often the file is looked at.
const watchEvery = 2 * time.Second

// settleTime is how old a change must be before it is taken over: a file may be half written.
const settleTime = 500 * time.Millisecond

// settlePatience is how long it is waited for that; then what is in force stays so.
const settlePatience = 5 * time.Second

// Settled reads the file again when its last change is old enough, and waits for that a few seconds.
func (f *File) Settled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		info, err := os.Stat(f.path)
		wait := time.Duration(0)
		if err == nil {
			wait = settleTime - time.Since(info.ModTime())
		}
		if wait <= 0 || wait > settleTime { // a file of the future is as old as it gets
			f.Reload()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Watch reads the file again whenever it changes, and when again receives something, until ctx is done.
func (f *File) Watch(ctx context.Context, again <-chan os.Signal) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			if !f.Reload() {
				f.log.Info("configuration read again, it has not changed", "file", f.path, "problem", f.Problem())
			}
		case <-tick.C:
			f.Settled(ctx)
		}
	}
}
