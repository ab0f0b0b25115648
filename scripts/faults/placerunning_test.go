//go:build faults

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cubby/scripts/process"
)

// placeBecomesReadOnly: what ext4 does after an error of the disk, here of its own accord.
func placeBecomesReadOnly(t *testing.T) *place {
	image, dir := filepath.Join(process.Dir(t), "image"), filepath.Join(process.Dir(t), "data")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run("truncate", "-s", "192M", image)
	run("mkfs.ext4", "-q", image)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run("mount", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	p := newPlace(t, dir, 0)
	s := p.command(t).Start(t, dir)
	p.serves(t, s, true)
	before := p.data(t)
	run("mount", "-o", "remount,abort", dir)
	p.serves(t, s, false, "read-only")
	p.collects(t, false, "read-only")
	p.unchanged(t, before, true)
	s.Kill()
	unmount(t, dir, 0)
	run("mount", "-o", "loop", image, dir)
	p.recovers(t)
	return p
}

func placeDetached(t *testing.T) *place {
	p, again := onMount(t)
	s := p.command(t).Start(t, p.dir)
	p.serves(t, s, true)
	before := p.data(t)
	unmount(t, p.path("blobs"), syscall.MNT_DETACH)
	p.collects(t, false, "moved or replaced")
	p.serves(t, s, false, "read-only", "moved or replaced")
	again()
	p.unchanged(t, before, true)
	p.stops(t, s)
	p.recovers(t)
	return p
}

func placeSwapped(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	away := filepath.Join(process.Dir(t), "away")
	s := p.command(t).Start(t, p.dir)
	p.serves(t, s, true)
	before := p.data(t)
	move(t, p.path("blobs"), away)
	if err := os.Mkdir(p.path("blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.collects(t, false, "moved or replaced")
	p.serves(t, s, false, "read-only", "moved or replaced")
	p.stops(t, s)
	p.refuses(t, "is a volume not mounted")
	if err := os.Remove(p.path("blobs")); err != nil {
		t.Fatal(err)
	}
	move(t, away, p.path("blobs"))
	p.unchanged(t, before, true)
	p.recovers(t)
	return p
}

// placeModeRunning takes away the right to the blobs: nothing is served or removed until it is there again, and then all
// is well without a restart.
func placeModeRunning(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), placeUser)
	s := p.command(t).Start(t, p.dir)
	p.serves(t, s, true)
	before := p.data(t)
	chmod(t, p.path("blobs"), 0)
	p.collects(t, false, "permission denied")
	c := process.NewClient(s.URL)
	c.WantContent(t, "team/app", "v1", p.sample.Images[0])
	c.Want(t, http.StatusInternalServerError, "GET", "/v2/team/app/blobs/"+p.sample.Blobs[0].Digest, nil)
	if !strings.Contains(s.Log(), "permission denied") {
		process.Poll(t, 5*time.Second, "the reason in the log", func() bool { return strings.Contains(s.Log(), "permission denied") })
	}
	chmod(t, p.path("blobs"), 0o700)
	p.unchanged(t, before, true)
	p.isWell(t, s)
	s.Stop(t)
	p.recovers(t)
	return p
}

// placeDatabaseRemoved: what is written from then on would be gone with the process.
func placeDatabaseRemoved(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	away := filepath.Join(process.Dir(t), "away")
	s := p.command(t).Start(t, p.dir)
	p.serves(t, s, true)
	before := p.data(t)
	move(t, p.path("cubby.db"), away)
	p.collects(t, false, "moved or replaced")
	p.serves(t, s, false, "read-only", "moved or replaced")
	s.Kill()
	p.refuses(t, "cubby.db", "is a volume not mounted")
	move(t, away, p.path("cubby.db"))
	p.unchanged(t, before, true)
	p.recovers(t)
	return p
}
