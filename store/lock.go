package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// The roles of a process that owns a data directory.
const (
	RoleServe = "serve"
	RoleAdmin = "admin"
)

// lockWait is how long a server waits for an administrative command to finish.
const lockWait = time.Minute

// A LockedError says who owns the data directory. It is ErrLocked.
type LockedError struct {
	Dir  string
	PID  int    // 0 when the owner has not written it yet
	Role string // RoleServe or RoleAdmin
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v: %s", ErrLocked, e.Dir)
	}
	return fmt.Sprintf("%v: %s belongs to `cubby %s`, pid %d; stop it first or give another --data", ErrLocked, e.Dir, e.Role, e.PID)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

type lockInfo struct {
	PID  int    `json:"pid"`
	Role string `json:"role"`
}

// takeLock makes this process the owner of dir until the returned file is closed. A server waits up to a minute for
// an administrative command; everything else fails at once with a *LockedError.
func takeLock(ctx context.Context, dir, role string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		f, err := tryLock(dir, role)
		locked, ok := errors.AsType[*LockedError](err)
		if !ok || role != RoleServe || locked.Role != RoleAdmin {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tryLock(dir, role string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, explainAccess(dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		e := &LockedError{Dir: dir}
		var info lockInfo
		if b, err := io.ReadAll(io.LimitReader(f, 1<<10)); err == nil && json.Unmarshal(b, &info) == nil {
			e.PID, e.Role = info.PID, info.Role
		}
		return nil, e
	}
	b, err := json.Marshal(lockInfo{PID: os.Getpid(), Role: role})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	// A full disk must not keep the store from opening: the file only says who holds the lock.
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f, nil
}

// digestLocks serialise the change of a digest's file with the check that no row came back.
type digestLocks struct {
	mu   sync.Mutex
	held map[digest.Digest]*digestLock // guarded by mu
}

type digestLock struct {
	mu      sync.Mutex
	waiters int // guarded by digestLocks.mu
}

// lock takes the digest's lock and returns what releases it.
func (l *digestLocks) lock(dgst digest.Digest) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[digest.Digest]*digestLock)
	}
	d := l.held[dgst]
	if d == nil {
		d = &digestLock{}
		l.held[dgst] = d
	}
	d.waiters++
	l.mu.Unlock()
	d.mu.Lock()
	return func() {
		d.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.waiters--; d.waiters == 0 {
			delete(l.held, dgst)
		}
	}
}
