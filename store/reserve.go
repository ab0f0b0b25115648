package store

import (
	"errors"
	"io/fs"
	"sync"
	"time"
)

const (
	// fileReserve is given up when something fills the disk to the last byte, so that deletes and collection, which need
	// a little room to make more, can commit. It is made again when there is room.
	fileReserve = "reserve"
	// reserveSize is its size in bytes: the database and its write-ahead log take some pages for each commit.
	reserveSize = 8 << 20
	// reserveFrom is from how many free bytes on it is made.
	reserveFrom = minFree + 2*reserveSize
	// reservePauseMax bounds the pause after an attempt that failed; it doubles with each. A quota that statfs does not
	// show would otherwise have the reserve written again and again.
	reservePauseMax = 10 * time.Minute
)

// A reserve is the file that is given up.
type reserve struct {
	wanted bool

	mu     sync.Mutex // guards what follows
	kept   bool       // the file is there and whole
	failed time.Time  // when it last could not be made
	pause  time.Duration
}

// keepReserve makes the reserve, when Options ask for it and there is room. That it cannot be made is no reason to stop
// anything. Only the goroutine that tends uses calls it.
func (s *Store) keepReserve() {
	s.reserve.mu.Lock()
	defer s.reserve.mu.Unlock()
	if !s.reserve.wanted || s.reserve.kept {
		return
	}
	if info, err := s.data.Root().Stat(fileReserve); err == nil && info.Size() == reserveSize {
		s.reserve.kept = true
		return
	}
	if free, _ := s.Space(); free < reserveFrom || s.now().Sub(s.reserve.failed) < s.reserve.pause {
		return
	}
	err := s.makeReserve()
	s.reserve.kept, s.reserve.pause = err == nil, min(max(2*s.reserve.pause, usesFlush), reservePauseMax)
	if err == nil {
		s.reserve.pause = 0
	} else {
		s.reserve.failed = s.now()
		s.log.Warn("no reserve for a full disk", "err", errors.Join(err, s.data.Remove(fileReserve)))
	}
}

// makeReserve writes bytes that no file system can leave out or make smaller. The name is made durable as every other in
// the directory; nothing depends on it.
func (s *Store) makeReserve() (err error) {
	if err := s.data.Remove(fileReserve); err != nil { // a part of one, from a crash
		return err
	}
	f, err := s.data.Create(fileReserve)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block, seed := make([]byte, 1<<20), uint64(1)
	for range reserveSize / len(block) {
		for i := range block {
			seed = seed*6364136223846793005 + 1442695040888963407
			block[i] = byte(seed >> 56)
		}
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.space.spend(reserveSize)
	return s.data.SyncDir(".")
}

// giveReserve gives the reserve up, and reports whether that made room. Where nothing is written in place (btrfs, ZFS) the
// room comes only with the next commit of the file system, seconds later: the first deletes may still find the disk full.
func (s *Store) giveReserve() bool {
	s.reserve.mu.Lock()
	defer s.reserve.mu.Unlock()
	if _, err := s.data.Root().Stat(fileReserve); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	s.reserve.kept = false
	if err := s.data.Remove(fileReserve); err != nil {
		s.log.Error("reserve not given up", "err", err)
		return false
	}
	s.log.Warn("disk full, the reserve was given up so that deletes and collection can go on", "bytes", reserveSize)
	return true
}

// isFull reports whether an error of a transaction says that the disk is full, and that nothing was committed.
func isFull(err error) bool {
	state, ok := errors.AsType[*stateError](err)
	return ok && state.is == ErrFull && !state.uncertain
}
