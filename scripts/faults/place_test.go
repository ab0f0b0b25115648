//go:build faults

package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
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

// placeUser is who runs the registry where rights matter.
const placeUser = 12345

// A place is a data directory to which something happens, and what is stored there: of the sample, collection may remove
// the blob that nothing names.
type place struct {
	dir    string
	uid    uint32 // who runs the registry; 0: root
	sample process.Sample

	collected          bool // what collection may remove was removed, and pushed again
	deletes, sentences int  // seen so far
}

func newPlace(t *testing.T, dir string, uid uint32) *place {
	t.Helper()
	p := &place{dir: dir, uid: uid}
	fillLongAgo(t, dir, func(c *process.Client) { p.sample = c.PushSample(t) })
	p.give(t, dir, int(uid))
	return p
}

// give makes everything in a directory a user's.
func (p *place) give(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) command(t *testing.T, args ...string) process.Command {
	t.Helper()
	c := process.Program(t, args...)
	c.UID = p.uid
	return c
}

func (p *place) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// data lists what must not change: the files of the blobs, the sentinel and the database with its log.
func (p *place) data(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch d.Name() {
		case "lock", "cubby.sock", "cubby.db-shm", "reserve":
			return nil // of the process that runs or ran
		}
		content, err := os.ReadFile(path)
		if d.Name() == "cubby.db-wal" && len(content) == 0 {
			return err // nothing is in it
		}
		all[strings.TrimPrefix(path, p.dir)] = process.Digest(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// unchanged fails the test unless everything is as it was. While a registry runs its database may move on.
func (p *place) unchanged(t *testing.T, before map[string]string, running bool) {
	t.Helper()
	after := p.data(t)
	for name, digest := range before {
		if running && strings.HasPrefix(name, "/cubby.db") {
			continue
		}
		if after[name] == "" {
			p.deletes++
		}
		if after[name] != digest {
			t.Errorf("%s was %s and is %q", name, digest, after[name])
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok && !running {
			t.Errorf("%s was made", name)
		}
	}
}

// says counts a sentence that has all the words.
func (p *place) says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("it does not say %q:\n%s", word, text)
			return
		}
	}
	p.sentences++
}

// collects fails the test unless collection is refused, or is not, with the words.
func (p *place) collects(t *testing.T, may bool, words ...string) {
	t.Helper()
	r := p.command(t, "gc", "--now", "--data", p.dir).Run(t)
	if (r.Code == 0) != may {
		t.Errorf("gc --now: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if !may {
		p.says(t, r.Stderr, words...)
	}
}

// refuses fails the test unless the registry does not start, nor collect without one, and changes nothing.
func (p *place) refuses(t *testing.T, words ...string) {
	t.Helper()
	before := p.data(t)
	for _, args := range [][]string{nil, {"--read-only"}} {
		s := p.command(t, args...).Launch(t, p.dir)
		if state := s.Wait(t, 15*time.Second); state.ExitCode() != 1 {
			t.Errorf("serve %v: %v, want it refused", args, state)
		}
		p.says(t, s.Log(), words...)
	}
	p.collects(t, false, words...)
	p.unchanged(t, before, false)
}

// serves fails the test unless everything of the sample is served, and a push is taken, or is refused with the words.
func (p *place) serves(t *testing.T, s *process.Server, pushes bool, words ...string) {
	t.Helper()
	c := process.NewClient(s.URL)
	defer c.Close()
	c.WantSample(t, p.sample)
	blob := process.RandomBlob(9, 3000)
	answer, err := c.Do(http.MethodPost, "/v2/team/new/blobs/uploads/?digest="+blob.Digest, blob.Raw)
	switch {
	case err != nil:
		t.Error(err)
	case pushes && answer.Status != http.StatusCreated:
		t.Errorf("push: %d %s", answer.Status, answer.Body)
	case !pushes && answer.Status < 400:
		t.Errorf("push: %d, want it refused", answer.Status)
	case !pushes:
		p.says(t, string(answer.Body), words...)
	}
}

// stops ends a server that cannot write what it still has to say, which it tells.
func (p *place) stops(t *testing.T, s *process.Server) {
	t.Helper()
	s.Signal(t, syscall.SIGTERM)
	if state := s.Wait(t, 15*time.Second); state.ExitCode() != 1 {
		t.Errorf("serve ended with %v", state)
	}
	p.says(t, s.Log(), "cubby: store is read-only until restart")
}

// recovers fails the test unless a new process serves and collects as if nothing had been.
func (p *place) recovers(t *testing.T) {
	t.Helper()
	s := p.command(t).Start(t, p.dir)
	p.isWell(t, s)
	s.Stop(t)
	if found := p.command(t).Problems(t, p.dir); len(found) > 0 {
		t.Error(found)
	}
}

// isWell fails the test unless a server serves and collects.
func (p *place) isWell(t *testing.T, s *process.Server) {
	t.Helper()
	p.serves(t, s, true)
	p.collects(t, true)
	encoded := strings.TrimPrefix(p.sample.Other.Digest, "sha256:")
	if _, err := os.Stat(p.path("blobs", "sha256", encoded[:2], encoded)); err == nil && !p.collected {
		t.Error("nothing was collected")
	}
	p.collected = true
	c := process.NewClient(s.URL)
	defer c.Close()
	c.PushBlob(t, "team/other", p.sample.Other)
}

// TestPlace takes a registry the ground from under its feet: file systems that are read-only, full or not mounted, rights
// that are not there, files that went (T-8).
func TestPlace(t *testing.T) {
	process.NeedRoot(t)
	process.NeedTool(t, "mkfs.ext4", "mount", "umount")
	cases := []struct {
		name string
		run  func(*testing.T) *place
	}{
		{"blobs not mounted at the start", placeUnmounted}, {"database missing at the start", placeNoDatabase}, {"database of a newer version", placeNewer},
		{"read-only file system at the start", placeReadOnly}, {"mode 0 at the start", placeMode(0)}, {"directory not writable", placeMode(0o500)},
		{"directory of another user", placeForeign}, {"blobs of another user", placeForeignBlobs}, {"file system full at the start", placeFull}, {"tmp missing", placeNoTemp},
		{"file system becomes read-only", placeBecomesReadOnly}, {"blobs lazily unmounted", placeDetached}, {"blobs replaced by an empty directory", placeSwapped},
		{"mode 0 of blobs while it runs", placeModeRunning}, {"database removed while it runs", placeDatabaseRemoved},
	}
	deletes, sentences, passed := 0, 0, 0
	for _, c := range cases {
		if t.Run(c.name, func(t *testing.T) {
			p := c.run(t)
			deletes += p.deletes
			sentences += p.sentences
		}) {
			passed++
		}
	}
	figures.Row{ID: "T-8", Test: "read-only, full and missing file systems, missing rights and files, at the start and while it runs: serve, push, pull, collect, then put right", Figures: []figures.Figure{
		figures.Count("cases", len(cases)), figures.Count("as they must be", passed), figures.Count("refusals with a sentence that tells why", sentences), figures.Count("deletes", deletes),
	}}.Report(t)
}

// mount mounts until the test ends, and fails it when that does not work.
func mount(t *testing.T, from, to, kind string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount(from, to, kind, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", to, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(to, syscall.MNT_DETACH) }) // what is not mounted any more need not be
}

// onMount returns a place whose blobs are a mount of a directory elsewhere, and what mounts it again.
func onMount(t *testing.T) (p *place, again func()) {
	p = newPlace(t, process.Dir(t), 0)
	elsewhere := filepath.Join(process.Dir(t), "blobs")
	if err := os.Rename(p.path("blobs"), elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.path("blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	again = func() { mount(t, elsewhere, p.path("blobs"), "", syscall.MS_BIND) }
	again()
	return p, again
}

func unmount(t *testing.T, path string, flags int) {
	t.Helper()
	if err := syscall.Unmount(path, flags); err != nil {
		t.Fatal(err)
	}
}

func placeUnmounted(t *testing.T) *place {
	p, again := onMount(t)
	unmount(t, p.path("blobs"), 0)
	p.refuses(t, "is a volume not mounted", p.dir)
	again()
	p.recovers(t)
	return p
}

func placeNoDatabase(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	away := filepath.Join(process.Dir(t), "away")
	move(t, p.path("cubby.db"), away)
	p.refuses(t, "cubby.db", "is a volume not mounted", "backup")
	move(t, away, p.path("cubby.db"))
	p.recovers(t)
	return p
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// placeNewer writes another user_version into the header of the database, where SQLite keeps it.
func placeNewer(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	f, err := os.OpenFile(p.path("cubby.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before [4]byte
	if _, err := f.ReadAt(before[:], 60); err != nil {
		t.Fatal(err)
	}
	write := func(version []byte) {
		if _, err := f.WriteAt(version, 60); err != nil {
			t.Fatal(err)
		}
	}
	write(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(before[:])+1))
	p.refuses(t, "written by a newer cubby", "run that version")
	write(before[:])
	p.recovers(t)
	return p
}

func placeReadOnly(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	mount(t, p.dir, p.dir, "", syscall.MS_BIND)
	mount(t, "", p.dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY)
	p.refuses(t, "cannot write "+p.dir, "read-only file system", "give another directory")
	mount(t, "", p.dir, "", syscall.MS_REMOUNT|syscall.MS_BIND)
	p.recovers(t)
	return p
}

func placeMode(mode os.FileMode) func(t *testing.T) *place {
	return func(t *testing.T) *place {
		p := newPlace(t, process.Dir(t), placeUser)
		chmod(t, p.dir, mode)
		p.refuses(t, p.dir, fmt.Sprintf("%04o", mode), "permission denied", "12345")
		chmod(t, p.dir, 0o700)
		p.recovers(t)
		return p
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func placeForeign(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), placeUser)
	chmod(t, p.dir, 0o700)
	p.uid++
	p.refuses(t, p.dir, " 12345")
	p.uid--
	p.recovers(t)
	return p
}

func placeForeignBlobs(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), placeUser)
	p.give(t, p.path("blobs"), 0)
	p.refuses(t, p.path("blobs"), "permission denied", "belongs to 0:0", "12345")
	p.give(t, p.path("blobs"), placeUser)
	p.recovers(t)
	return p
}

// placeFull starts on a full disk: without a reserve it says why it cannot, with one it serves pulls.
func placeFull(t *testing.T) *place {
	dir := filepath.Join(process.Dir(t), "data")
	v := mountVolume(t, dir)
	p := newPlace(t, dir, 0)
	v.fill(t, 0)
	p.refuses(t, "disk full", p.dir, "make some")
	v.empty(t)
	s := p.command(t).Start(t, dir)
	process.Poll(t, 10*time.Second, "the reserve", func() bool {
		info, err := os.Stat(p.path("reserve"))
		return err == nil && info.Size() == 8<<20
	})
	s.Stop(t)
	v.fill(t, 0)
	before := p.data(t)
	s = p.command(t).Start(t, dir)
	p.serves(t, s, false, "DENIED", "disk full")
	p.unchanged(t, before, true)
	v.empty(t)
	process.Poll(t, 10*time.Second, "pushes", func() bool {
		answer, err := process.NewClient(s.URL).Do(http.MethodPost, "/v2/team/new/blobs/uploads/", nil)
		return err == nil && answer.Status == http.StatusAccepted
	})
	p.isWell(t, s)
	s.Stop(t)
	p.recovers(t)
	return p
}

// placeNoTemp: SQLite's directory comes back, at the start and without it for as long as it runs.
func placeNoTemp(t *testing.T) *place {
	p := newPlace(t, process.Dir(t), 0)
	if err := os.RemoveAll(p.path("tmp")); err != nil {
		t.Fatal(err)
	}
	s := p.command(t).Start(t, p.dir)
	if err := os.RemoveAll(p.path("tmp")); err != nil {
		t.Fatal(err)
	}
	p.isWell(t, s)
	s.Stop(t)
	p.recovers(t)
	return p
}
