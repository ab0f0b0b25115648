package store

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cubby/store/durable"
)

// untilReserve waits for the reserve that the background makes.
func untilReserve(t *testing.T, s *Store) string {
	t.Helper()
	path := filepath.Join(s.dir, fileReserve)
	for deadline := time.Now().Add(time.Minute); ; {
		s.reserve.mu.Lock()
		kept := s.reserve.kept
		s.reserve.mu.Unlock()
		if kept {
			return path
		}
		if time.Now().After(deadline) {
			t.Fatal("no reserve is made")
		}
		time.Sleep(time.Millisecond)
	}
}

// withReserve are the options of a server that keeps one.
func withReserve(dir string) Options {
	o := testingOptions(dir)
	o.Reserve = true
	return o
}

// fillDatabase is an operation that finds the disk full the first times that it runs.
func fillDatabase(times int) (run func(*tx) error, ran *int) {
	ran = new(int)
	return func(t *tx) error {
		if *ran++; *ran <= times {
			if _, err := t.exec(`PRAGMA max_page_count = 1`); err != nil { // as large as it is now
				return err
			}
		}
		_, err := t.exec(`INSERT INTO settings (name, value) VALUES ('room-' || hex(randomblob(8)), hex(randomblob(1 << 20)))`)
		return err
	}, ran
}

// TestReserve: what shrinks the store commits also when the disk is full to the last byte, once.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	s := open(t, withReserve(dir))
	path := untilReserve(t, s)
	if info, err := os.Stat(path); err != nil || info.Size() != reserveSize {
		t.Fatalf("reserve: %v, %v", info, err)
	}
	// From here on it is made when the test says so, and not by the background too.
	want := func(wanted bool) {
		s.reserve.mu.Lock()
		defer s.reserve.mu.Unlock()
		s.reserve.wanted = wanted
	}
	keep := func() {
		want(true)
		s.keepReserve()
		want(false)
	}
	want(false)
	run, ran := fillDatabase(1)
	if err := s.change(anything, run); err != nil || *ran != 2 {
		t.Errorf("with a reserve: %v after %d runs, want it done by the second", err, *ran)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reserve is still there: %v", err)
	}
	run, ran = fillDatabase(1)
	if err := s.change(anything, run); !errors.Is(err, ErrFull) || *ran != 1 {
		t.Errorf("without: %v after %d runs, want ErrFull after the first", err, *ran)
	}
	fakeSpace(s, reserveFrom-1)
	keep()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a reserve where there is no room: %v", err)
	}
	fakeSpace(s, reserveFrom)
	// A part of one, from a crash, is made anew.
	if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	keep()
	if info, err := os.Stat(path); err != nil || info.Size() != reserveSize {
		t.Errorf("made again: %v, %v", info, err)
	}
	// One that is full twice is told so.
	run, ran = fillDatabase(2)
	if err := s.change(anything, run); !errors.Is(err, ErrFull) || *ran != 2 {
		t.Errorf("full twice: %v after %d runs", err, *ran)
	}
	shut(t, s)
	s = open(t, withReserve(dir)) // with and without it
	untilReserve(t, s)
	shut(t, s)
	s = open(t, withReserve(dir))
	untilReserve(t, s)
}

// TestNoReserve: who only reads, or opens the store for a command, makes none.
func TestNoReserve(t *testing.T) {
	dir := t.TempDir()
	s := open(t, withReserve(dir))
	path := untilReserve(t, s)
	shut(t, s)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Dir: dir, Role: RoleServe, ReadOnly: true, Reserve: true}, {Dir: dir, Role: RoleAdmin}} {
		s := open(t, o)
		s.keepReserve()
		shut(t, s)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("role %s, read-only %v: there is a reserve: %v", o.Role, o.ReadOnly, err)
		}
	}
}

// TestReservePause: a reserve that cannot be made, for a quota that the free space does not show, is tried ever more rarely.
func TestReservePause(t *testing.T) {
	c := newClock(time.Now())
	var tries atomic.Int64
	var room atomic.Bool
	o := withReserve(t.TempDir())
	o.Now = c.Now
	o.hook = func(step durable.Step, name string) error {
		if step == durable.StepWrite && name == fileReserve {
			if tries.Add(1); !room.Load() {
				return syscall.EDQUOT
			}
		}
		return nil
	}
	s := open(t, o)
	fakeSpace(s, 1<<30)
	hour := func() int64 {
		before := tries.Load()
		for range time.Hour / usesFlush {
			c.set(c.now.Add(usesFlush))
			s.keepReserve()
		}
		return tries.Load() - before
	}
	s.keepReserve()
	// After 5 s, 10 s and so on up to 320 s, each twice the last; then every 10 minutes.
	if first, second := hour(), hour(); first != 7+4 || second != 6 {
		t.Errorf("%d tries in the first hour and %d in the second, want 11 and 6", first, second)
	}
	room.Store(true)
	hour()
	untilReserve(t, s)
	if s.reserve.mu.Lock(); s.reserve.pause != 0 {
		t.Errorf("a pause of %v after success", s.reserve.pause)
	}
	s.reserve.mu.Unlock()
}
