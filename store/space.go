package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
)

// minFree is the free space in bytes below which pushes are refused, so that the database can still commit deletes.
const minFree = 32 << 20

// space caches the free space of the data directory and of blobs/, whichever has less.
type space struct {
	checked atomic.Int64 // unix nanoseconds
	warned  atomic.Int64 // unix nanoseconds; when the log last said that pushes are refused
	free    atomic.Int64
	total   atomic.Int64

	reclaimable atomic.Pointer[func(context.Context) (int64, error)]
	reclaims    sync.Mutex   // held while it is asked
	reclaimAt   atomic.Int64 // unix nanoseconds; when it was last asked
	reclaim     atomic.Int64 // bytes; what it said
}

const (
	// reclaimEvery is how often a full disk makes the store ask what collection could free, which may walk all of it.
	reclaimEvery = time.Minute
	// reclaimMax bounds how long one refused push waits for that.
	reclaimMax = 5 * time.Second
)

// SetReclaimable gives the store a function that returns how many bytes `cubby gc --now` would free, for the error of a
// full disk. It may be called at any time; the function is run by one goroutine at once.
func (s *Store) SetReclaimable(bytes func(context.Context) (int64, error)) {
	s.space.reclaimable.Store(&bytes)
}

// findReclaimable asks what could be freed, unless somebody just did. The writer's goroutine must not call it.
func (s *Store) findReclaimable() {
	bytes := s.space.reclaimable.Load()
	if bytes == nil || !s.space.reclaims.TryLock() {
		return
	}
	defer s.space.reclaims.Unlock()
	now := time.Now().UnixNano()
	if now-s.space.reclaimAt.Load() < int64(reclaimEvery) {
		return
	}
	s.space.reclaimAt.Store(now)
	ctx, cancel := context.WithTimeout(context.Background(), reclaimMax)
	defer cancel()
	n, err := (*bytes)(ctx)
	if err != nil {
		s.log.Warn("what collection could free is not known", "err", err)
	}
	s.space.reclaim.Store(n)
}

// spend takes bytes that were just written off the cached free space: a second is long enough to fill a disk.
func (s *space) spend(n int64) { s.free.Add(-n) }

// Space returns the bytes that are free, and the size in bytes, of the fuller of the volumes that hold the database and
// the blobs. The answer may be a second old.
func (s *Store) Space() (free, total int64) {
	now := time.Now().UnixNano()
	if last := s.space.checked.Load(); now-last > int64(time.Second) && s.space.checked.CompareAndSwap(last, now) {
		s.checkPlace()
		free, total, err := s.data.Free()
		blobsFree, blobsTotal, blobsErr := s.blobs.Free()
		if blobsErr == nil && (err != nil || blobsFree < free) {
			free, total, err = blobsFree, blobsTotal, nil
		}
		if err == nil {
			s.space.total.Store(total)
			s.space.free.Store(free)
		}
	}
	return s.space.free.Load(), s.space.total.Load()
}

// full returns ErrFull with the numbers, and logs what was hit.
func (s *Store) full(cause error) *stateError {
	if cause != nil {
		s.space.checked.Store(0) // what was known is wrong
	}
	free, total := s.Space()
	if cause != nil {
		s.log.Error("disk full", "free", free, "total", total, "err", cause)
	}
	size := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	sentence := fmt.Sprintf(": %s of %s free, pushes need %s", size(free), size(total), size(minFree))
	if n := s.space.reclaim.Load(); n > 0 {
		sentence += fmt.Sprintf("; %s can go: cubby gc --now", size(n))
	}
	return &stateError{is: ErrFull, sentence: sentence, cause: cause}
}

// Writable returns nil while pushes are accepted, and otherwise ErrReadOnly or ErrFull with the reason.
func (s *Store) Writable() error {
	if err := s.changeable(); err != nil {
		return err
	}
	free, total := s.Space() // also looks whether the directory is still ours
	if failed := s.w.failed.Load(); failed != nil {
		return *failed
	}
	if total > 0 && free < minFree {
		now := time.Now().UnixNano()
		if last := s.space.warned.Load(); now-last > int64(time.Minute) && s.space.warned.CompareAndSwap(last, now) {
			s.log.Warn("disk full, pushes are refused", "free", free, "total", total, "keep", minFree)
		}
		s.findReclaimable()
		return s.full(nil)
	}
	return nil
}

// probe tries whether the data directory takes writes.
func (s *Store) probe() error { return s.probeIn(dirTemp) }

// probeIn tries whether a directory in the data directory takes a file.
func (s *Store) probeIn(dir string) error {
	name := filepath.Join(dir, rand.Text())
	f, err := s.data.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Sync(), f.Close(), s.data.Remove(name))
}
