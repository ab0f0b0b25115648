package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
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

	reclaim reclaim
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
	if n := s.space.reclaim.known(); n > 0 {
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
		s.space.reclaim.ask()
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
