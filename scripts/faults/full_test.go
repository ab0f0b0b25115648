//go:build faults

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

const (
	// volumeSize is that of the file systems that get full, in bytes: room for the server to keep its reserve.
	volumeSize = 96 << 20
	// pushesNeed is what the server keeps free for itself.
	pushesNeed = 32 << 20
	// reserveSize is what it sets aside.
	reserveSize = 8 << 20
)

// A volume is a file system that can be filled.
type volume struct {
	dir    string
	filler string
}

func mountVolume(t *testing.T, dir string) volume {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("cubby-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", volumeSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return volume{dir: dir, filler: filepath.Join(dir, "lost+found")}
}

// fill takes what is free but for some bytes, as another program would.
func (v volume) fill(t *testing.T, leave int64) {
	t.Helper()
	f, err := os.Create(v.filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(v.dir, &fs); err != nil {
			t.Fatal(err)
		}
		free := int64(fs.Bavail)*fs.Bsize - leave
		if free <= 0 {
			return
		}
		err := syscall.Fallocate(int(f.Fd()), 0, 0, free)
		if err == nil {
			return
		}
		if err != syscall.ENOSPC { // or the server took some meanwhile
			t.Fatal(err)
		}
	}
}

func (v volume) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(v.filler); err != nil {
		t.Fatal(err)
	}
}

// A level is how full which volume gets.
type level struct {
	leave       int64
	data, blobs bool // which of the volumes gets full
	noticed     bool // the server has seen it before the first push
}

// levels spreads n of them over what a push needs, most where it is little: the disk is full to the last byte, a page
// before it, and so on.
func levels(n int) (all []level) {
	for i := range n {
		leave := int64(0)
		if i >= 3 {
			leave = int64(4096) << (13 * i / n) // up to what pushes need
			leave += leave / 3 * int64(i%3)
		}
		all = append(all, level{leave: leave, data: i%3 != 2, blobs: i%3 != 1, noticed: i%2 == 1})
	}
	return all
}

// TestFull fills the disk of a serving registry to many levels, under a push and between requests (T-6).
func TestFull(t *testing.T) {
	process.NeedRoot(t)
	seed := figures.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	all := levels(figures.Size(t, 4))
	var refused, recovered int
	var leaked int64
	for i, l := range all {
		t.Run(fmt.Sprintf("%d: %d KiB left, data %t, blobs %t, noticed %t", i, l.leave>>10, l.data, l.blobs, l.noticed), func(t *testing.T) {
			f := newFullDisk(t, rng, l)
			refused += f.pushes(t)
			f.goesOn(t)
			if f.recovers(t) {
				recovered++
			}
			leaked += f.leaked(t)
		})
	}
	figures.Row{ID: "T-6", Test: "the disk of the data, of the blobs or of both filled by another program to many levels, under pushes; then pulls, deletes, a collection and a restart on it; then room again", Seed: seed, Figures: []figures.Figure{
		figures.Count("levels", len(all)), figures.Count("recovered without a restart", recovered), figures.Count("pushes refused with numbers", refused), figures.Count("bytes leaked", int(leaked)),
	}}.Report(t)
}

// A fullDisk is a registry on volumes that get full, and what was pushed to it.
type fullDisk struct {
	dir         string
	data, blobs volume
	level       level
	s           *process.Server
	c           *process.Client
	rng         *rand.Rand

	sample process.Sample
	acked  []process.Content // blobs of team/full
	tagged process.Content   // where team/app:full leads
}

func newFullDisk(t *testing.T, rng *rand.Rand, l level) *fullDisk {
	t.Helper()
	f := &fullDisk{dir: filepath.Join(process.Dir(t), "data"), level: l, rng: rng}
	f.data = mountVolume(t, f.dir)
	f.blobs = mountVolume(t, filepath.Join(f.dir, "blobs"))
	fillLongAgo(t, f.dir, func(c *process.Client) {
		f.sample = c.PushSample(t)
		for i := range byte(3) { // what collection may remove
			c.PushImage(t, "team/old", []string{"latest"}, process.RandomBlob(100+i, 200), process.RandomBlob(110+i, 600<<10))
		}
	})
	f.s = process.Program(t).Start(t, f.dir)
	f.c = process.NewClient(f.s.URL)
	process.Poll(t, 10*time.Second, "the reserve", func() bool {
		info, err := os.Stat(filepath.Join(f.dir, "reserve"))
		return err == nil && info.Size() == reserveSize
	})
	return f
}

// pushes fills the disk under an upload and pushes on: each is done or refused with numbers.
func (f *fullDisk) pushes(t *testing.T) (refused int) {
	under := process.Blob(f.random(8 << 20))
	u := f.c.StartSlowUpload(t, "team/full", under.Raw[:2<<20])
	if f.level.data {
		f.data.fill(t, f.level.leave)
	}
	if f.level.blobs {
		f.blobs.fill(t, f.level.leave)
	}
	if f.level.noticed && f.level.leave < pushesNeed {
		process.Poll(t, 10*time.Second, "the full disk to be noticed", func() bool {
			return f.do(t, "GET", "/-/readyz?for=push", nil).Status == http.StatusServiceUnavailable
		})
	}
	if err := u.Finish(t, under.Raw[2<<20:]); err != nil && !strings.Contains(err.Error(), "status 403") {
		t.Errorf("the upload under which the disk got full: %v", err)
	}
	if answer := f.do(t, "DELETE", u.Location, nil); answer.Status != http.StatusNoContent && answer.Status != http.StatusNotFound { // the full disk may have ended it
		t.Errorf("the upload is not cancelled: status %d\n%s", answer.Status, answer.Body)
	}
	for range 12 {
		blob := process.Blob(f.random(1 + f.rng.IntN(1<<(4+f.rng.IntN(18)))))
		answer := f.do(t, "POST", "/v2/team/full/blobs/uploads/?digest="+blob.Digest, blob.Raw)
		if f.taken(t, answer) {
			f.acked = append(f.acked, blob)
		} else {
			refused++
		}
		m := process.Image(f.sample.Blobs[0], f.sample.Blobs[1:]...)
		m.Raw = append(m.Raw, bytes.Repeat([]byte(" "), f.rng.IntN(100_000))...) // another manifest each time
		m.Digest = process.Digest(m.Raw)
		answer = f.do(t, "PUT", "/v2/team/app/manifests/full", m.Raw, "Content-Type", m.MediaType)
		if f.taken(t, answer) {
			f.tagged = m
		} else {
			refused++
		}
	}
	return refused
}

func (f *fullDisk) random(size int) []byte {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(f.rng.Uint32())
	}
	return raw
}

func (f *fullDisk) do(t *testing.T, method, path string, body []byte, headers ...string) process.Answer {
	t.Helper()
	answer, err := f.c.Do(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

// taken returns whether a push was acknowledged. The only other answer is that the disk is full, with numbers.
func (f *fullDisk) taken(t *testing.T, answer process.Answer) bool {
	t.Helper()
	if answer.Status == http.StatusCreated {
		return true
	}
	if answer.Status != http.StatusForbidden || !bytes.Contains(answer.Body, []byte("DENIED")) || !bytes.Contains(answer.Body, []byte("free, pushes need 32 MiB")) {
		t.Errorf("a push to a full disk: status %d\n%s", answer.Status, answer.Body)
	}
	return false
}

// goesOn: on the full disk, also after a crash and a start, content is served, deleted and collected.
func (f *fullDisk) goesOn(t *testing.T) {
	f.serves(t)
	f.c.Want(t, http.StatusAccepted, "DELETE", "/v2/team/app/manifests/v1", nil)
	f.c.Want(t, http.StatusAccepted, "DELETE", "/v2/team/other/blobs/"+f.sample.Other.Digest, nil)
	f.s.Kill()
	f.s = process.Program(t).Start(t, f.dir)
	f.c = process.NewClient(f.s.URL)
	f.serves(t)
	f.c.Want(t, http.StatusNotFound, "GET", "/v2/team/app/manifests/v1", nil)
	if answer := f.do(t, "POST", "/v2/team/full/blobs/uploads/?digest="+f.sample.Other.Digest, f.sample.Other.Raw); f.taken(t, answer) {
		f.acked = append(f.acked, f.sample.Other)
	} else { // it may take a moment to find out what can go
		process.Poll(t, 10*time.Second, "what can go", func() bool {
			return bytes.Contains(f.do(t, "GET", "/-/readyz", nil).Body, []byte("MiB can go: cubby gc --now"))
		})
	}
	f.on(t, "gc", "--now").Want(t, 0, "Freed 1.")
}

func (f *fullDisk) on(t *testing.T, args ...string) process.Command {
	return process.Program(t, append(args, "--data", f.dir)...)
}

func (f *fullDisk) serves(t *testing.T) {
	t.Helper()
	f.c.WantContent(t, "team/app", "latest", f.sample.Images[1])
	if f.tagged.Raw != nil {
		f.c.WantContent(t, "team/app", "full", f.tagged)
	}
	for _, blob := range f.sample.Blobs {
		f.c.WantContent(t, "team/app", blob.Digest, blob)
	}
	for _, blob := range f.acked {
		f.c.WantContent(t, "team/full", blob.Digest, blob)
	}
}

// recovers makes room and returns whether pushes are taken again, by the same process.
func (f *fullDisk) recovers(t *testing.T) bool {
	if f.level.data {
		f.data.empty(t)
	}
	if f.level.blobs {
		f.blobs.empty(t)
	}
	process.Poll(t, 10*time.Second, "the room to be noticed", func() bool {
		return f.do(t, "GET", "/-/readyz?for=push", nil).Status == http.StatusOK
	})
	blob := process.RandomBlob(7, 3<<20)
	f.c.PushBlob(t, "team/full", blob)
	f.acked = append(f.acked, blob)
	f.serves(t)
	for _, problem := range f.on(t).Problems(t, f.dir) {
		t.Error(problem)
	}
	f.s.Stop(t)
	return !t.Failed()
}

// leaked returns the bytes of files that belong to nothing.
func (f *fullDisk) leaked(t *testing.T) (bytes int64) {
	for _, dir := range []string{"blobs/.uploads", "tmp"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() > 0 {
				t.Errorf("%s of %d bytes is left in %s", e.Name(), info.Size(), dir)
			}
			bytes += info.Size()
		}
	}
	return bytes
}
