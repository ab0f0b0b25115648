//go:build faults

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cubby/scripts/process"
)

// diskOptions take turns at each mount. Nothing is written to the journal unless somebody asks for it, and ext4 does not
// make up for a missing fsync; with data=writeback a journaled name may come before its bytes.
var diskOptions = []string{"loop,commit=1000,noauto_da_alloc", "loop,commit=1000,noauto_da_alloc,data=writeback"}

// A disk is an ext4 file system in a file, whose power can be cut: what was not synced is lost.
type disk struct {
	dir     string // where it is mounted
	image   string
	mounted bool
	mounts  int
}

// newDisk returns a disk for a directory. When the test ends it is not mounted any more.
func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	process.NeedRoot(t)
	process.NeedTool(t, "mkfs.ext4", "mount", "umount")
	d := &disk{dir: dir, image: filepath.Join(process.Dir(t), "image")}
	t.Cleanup(func() { d.unmount(t) })
	return d
}

// format makes the file system anew and mounts it.
func (d *disk) format(t *testing.T) {
	t.Helper()
	d.unmount(t)
	err := os.WriteFile(d.image, nil, 0o600)
	if err == nil {
		err = os.Truncate(d.image, 192<<20)
	}
	if err == nil {
		err = os.MkdirAll(d.dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.must(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount(t)
}

// mount replays the journal after a cut.
func (d *disk) mount(t *testing.T) {
	t.Helper()
	d.must(t, "mount", "-t", "ext4", "-o", diskOptions[d.mounts%len(diskOptions)], d.image, d.dir)
	d.mounts++
	d.mounted = true
}

// unmount takes the loop device along. Nothing may have a file open on the disk.
func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if d.mounted {
		d.must(t, "umount", d.dir)
		d.mounted = false
	}
}

func (d *disk) must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// cut makes of the file system what would be found after a power cut at this moment: nothing reaches the image any more,
// not even what is in the journal's buffers. Everything on it fails with EIO until it is mounted again. It may be called
// from any goroutine.
func (d *disk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	const shutdown, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush); err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.dir, err)
	}
	return nil
}
