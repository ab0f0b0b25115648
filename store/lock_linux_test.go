package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLocksOutliveDescriptors: closing another descriptor of the database drops the POSIX locks of the whole process, and
// with them SQLite's, unless they belong to its own descriptor.
func TestLocksOutliveDescriptors(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	mustPush(t, s, "a", "content")
	locked := func() bool {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(s.dir, fileDB), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
			t.Fatal(err)
		}
		return lock.Type != unix.F_UNLCK
	}
	for i := range 2 { // the first look closes a descriptor
		if !locked() {
			t.Fatalf("look %d: nothing is locked while the database is open", i+1)
		}
	}
}
