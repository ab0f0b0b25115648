package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cubby/store/durable"

	"github.com/opencontainers/go-digest"
)

// TestPushFaults: whatever step of a push fails, the push is not acknowledged, the store stays sound, and the same
// push succeeds afterwards, in this process and after a reopen.
func TestPushFaults(t *testing.T) {
	for _, step := range []durable.Step{durable.StepCreate, durable.StepWrite, durable.StepSync, durable.StepMkdir, durable.StepRename, durable.StepSyncDir} {
		t.Run(string(step), func(t *testing.T) {
			dir, on, cause := t.TempDir(), false, error(nil)
			o := testingOptions(dir)
			o.hook = func(got durable.Step, _ string) error {
				if on && got == step {
					return cause
				}
				return nil
			}
			s := open(t, o)
			causes := []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE}
			for _, cause = range causes {
				content := []byte(cause.Error())
				on = true
				dgst, err := push(t, s, "a", content)
				on = false
				if !errors.Is(err, cause) {
					t.Fatalf("push: %v, want %v", err, cause)
				}
				if full := cause == syscall.ENOSPC || cause == syscall.EDQUOT; errors.Is(err, ErrFull) != full {
					t.Errorf("push: %v, recognised as full: %v", err, !full)
				}
				if _, err := read(t, s, "a", dgst); !errors.Is(err, ErrBlobUnknown) {
					t.Errorf("read after a failed push: %v", err)
				}
				check(t, s)
				if _, err := push(t, s, "a", content); err != nil {
					t.Errorf("push again: %v", err)
				}
			}
			shut(t, s)
			s = open(t, testingOptions(dir))
			for _, cause := range causes {
				content := cause.Error()
				if got, err := read(t, s, "a", sum([]byte(content))); err != nil || string(got) != content {
					t.Errorf("read after reopen: %q, %v", got, err)
				}
			}
			if left := uploadsLeft(t, dir); left != 0 {
				t.Errorf("%d uploads left", left)
			}
		})
	}
}

func uploadsLeft(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", ".uploads"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestSyncIsNotRepeated: after an fsync that failed, the kernel says yes to a second one over lost pages.
func TestSyncIsNotRepeated(t *testing.T) {
	syncs := 0
	o := testingOptions(t.TempDir())
	armed := false
	o.hook = func(step durable.Step, name string) error {
		if armed && step == durable.StepSync && strings.HasPrefix(name, dirUploads) {
			syncs++
			return syscall.EIO
		}
		return nil
	}
	s := open(t, o)
	armed = true
	if _, err := push(t, s, "a", []byte("content")); err == nil {
		t.Error("pushed")
	}
	if syncs != 1 {
		t.Errorf("%d syncs, want 1", syncs)
	}
}

// TestSyncOfDirectoryIsNotRepeated: a directory for blobs whose name could not be synced is made anew by the next push.
func TestSyncOfDirectoryIsNotRepeated(t *testing.T) {
	on := false
	o := testingOptions(t.TempDir())
	o.hook = func(step durable.Step, name string) error {
		if on && step == durable.StepSyncDir && name == digest.SHA256.String() {
			return syscall.EIO
		}
		return nil
	}
	s := open(t, o)
	on = true
	dgst, err := push(t, s, "a", []byte("content"))
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("push: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, dirBlobs, blobDir(dgst))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	on = false
	mustPush(t, s, "a", "content")
}

// TestDamageHeals: a missing or short file, and one that a check found to have other bytes, is answered like an absent blob,
// and the next push puts it right.
func TestDamageHeals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(path string) error
		deep   bool // only reading every byte finds it
	}{
		{"missing", os.Remove, false},
		{"short", func(path string) error { return os.Truncate(path, 3) }, false},
		{"empty", func(path string) error { return os.Truncate(path, 0) }, false},
		{"flipped", func(path string) error { return os.WriteFile(path, []byte("cOntent"), 0o600) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, testingOptions(dir))
			dgst := mustPush(t, s, "a", "content")
			mustPut(t, s, "a", imageOf(dgst), "1")
			if err := tt.damage(filepath.Join(dir, "blobs", blobPath(dgst))); err != nil {
				t.Fatal(err)
			}
			report, err := s.Check(t.Context(), tt.deep, nil)
			if err != nil || len(report.Problems) != 1 {
				t.Errorf("check: %+v, %v", report.Problems, err)
			}
			if _, err := read(t, s, "a", dgst); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("read: %v", err)
			}
			if present, err := s.Present(t.Context(), name("a"), []digest.Digest{dgst}); len(present) > 0 || err != nil {
				t.Errorf("present: %v, %v", present, err)
			}
			if err := s.MountBlob(t.Context(), name("a"), name("b"), dgst); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("mount: %v", err)
			}
			if err := put(t, s, "a", imageOf(dgst), "2"); !errors.Is(err, ErrManifestBlobUnknown) {
				t.Errorf("put manifest: %v", err)
			}
			mustPush(t, s, "a", "content")
			if got, err := read(t, s, "a", dgst); err != nil || string(got) != "content" {
				t.Errorf("after another push: %q, %v", got, err)
			}
			mustPut(t, s, "a", imageOf(dgst), "2")
		})
	}
}

// TestDeleteBlobFile: the file goes with the last repository, and not while a manifest or another repository needs it.
func TestDeleteBlobFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	dgst := mustPush(t, s, "a", "content")
	if err := s.MountBlob(t.Context(), name("a"), name("b"), dgst); err != nil {
		t.Fatal(err)
	}
	m := mustPut(t, s, "a", imageOf(dgst), "1", "2")
	err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{})
	inUse, ok := errors.AsType[*InUseError](err)
	if !ok || inUse.Count != 1 || inUse.By[0].Digest != m || len(inUse.By[0].Tags) != 2 {
		t.Fatalf("delete of a used blob: %v", err)
	}
	if err := s.DeleteManifest(t.Context(), name("a"), m, Condition{}, Actor{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", blobPath(dgst))
	for _, repo := range []string{"a", "b"} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("file is gone before the last repository: %v", err)
		}
		if err := s.DeleteBlob(t.Context(), name(repo), dgst, Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("file is still there: %v", err)
	}
}

// TestLeases: "it is here" holds for a manifest put later.
func TestLeases(t *testing.T) {
	c := newClock(time.Unix(1_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	dgst := mustPush(t, s, "a", "content")
	until := func() time.Time {
		t.Helper()
		var v int64
		if err := s.db.queryRow(t.Context(), `SELECT keep_until FROM repository_blobs`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return time.Unix(v, 0)
	}
	head := func(renew bool) {
		t.Helper()
		if size, err := s.StatBlob(t.Context(), name("a"), dgst, renew); err != nil || size != int64(len("content")) {
			t.Fatal(size, err)
		}
	}
	first := until()
	if want := c.now.Add(Lease); !first.Equal(want) {
		t.Fatalf("lease of a push until %v, want %v", first, want)
	}
	c.set(c.now.Add(Lease/2 - time.Minute))
	head(true)
	if got := until(); !got.Equal(first) {
		t.Errorf("renewed with more than half left: %v", got)
	}
	c.set(c.now.Add(2 * time.Minute))
	head(false)
	if got := until(); !got.Equal(first) {
		t.Errorf("renewed for someone who may not push: %v", got)
	}
	head(true)
	if got, want := until(), c.now.Add(Lease); !got.Equal(want) {
		t.Errorf("renewed until %v, want %v", got, want)
	}
	// The last manifest that names it goes: it is kept for a lease from then on.
	m := mustPut(t, s, "a", imageOf(dgst), "1")
	c.set(c.now.Add(10 * Lease))
	if err := s.DeleteManifest(t.Context(), name("a"), m, Condition{}, Actor{}); err != nil {
		t.Fatal(err)
	}
	if got, want := until(), c.now.Add(Lease); !got.Equal(want) {
		t.Errorf("after the last manifest kept until %v, want %v", got, want)
	}
}

// TestUploadRestart: a session that holds bytes outlives the process, at what both its row and its file have.
func TestUploadRestart(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	s := open(t, testingOptions(dir))
	ids := make(map[string]string)
	for _, kind := range []string{"patch", "put", "short file", "no file", "empty"} {
		id, err := s.StartUpload(name("a"), "p", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		ids[kind] = id
		if kind == "empty" {
			continue
		}
		if n, err := s.WriteUpload(t.Context(), name("a"), "p", id, 0, bytes.NewReader(content[:6000])); err != nil || n != 6000 {
			t.Fatal(n, err)
		}
	}
	shut(t, s)
	write(t, filepath.Join(dir, "blobs", ".uploads", "stray"), "bytes of no session")
	if err := os.Truncate(filepath.Join(dir, "blobs", ".uploads", ids["short file"]), 5000); err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(dir, "blobs", ".uploads", ids["no file"]))
	s = open(t, testingOptions(dir))
	for kind, want := range map[string]int64{"patch": 6000, "put": 6000, "short file": 5000} {
		n, err := s.UploadOffset(name("a"), "p", ids[kind])
		if err != nil || n != want {
			t.Fatalf("%s: offset %d, want %d (%v)", kind, n, want, err)
		}
		at := want
		if kind == "patch" {
			if at, err = s.WriteUpload(t.Context(), name("a"), "p", ids[kind], at, bytes.NewReader(content[at:8000])); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.FinishUpload(t.Context(), name("a"), "p", ids[kind], at, bytes.NewReader(content[at:]), sum(content)); err != nil {
			t.Errorf("%s: finish: %v", kind, err)
		}
	}
	for _, kind := range []string{"no file", "empty"} {
		if _, err := s.UploadOffset(name("a"), "p", ids[kind]); !errors.Is(err, ErrUploadUnknown) {
			t.Errorf("%s: %v, want ErrUploadUnknown", kind, err)
		}
	}
	if left := uploadsLeft(t, dir); left != 0 {
		t.Errorf("%d uploads left", left)
	}
	shut(t, s)
	s = open(t, testingOptions(dir))
	var rows int
	if err := s.db.queryRow(t.Context(), `SELECT count(*) FROM uploads`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows left (%v)", rows, err)
	}
}

// TestUploadsOfOthers: a session belongs to its repository and principal.
func TestUploadsOfOthers(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	id, err := s.StartUpload(name("a"), "p", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if len(id) < 26 {
		t.Errorf("id %q has less than 128 bits", id)
	}
	for _, who := range []struct{ repo, principal string }{{"b", "p"}, {"a", "q"}} {
		if _, err := s.WriteUpload(t.Context(), name(who.repo), who.principal, id, -1, strings.NewReader("x")); !errors.Is(err, ErrUploadUnknown) {
			t.Errorf("%+v: %v", who, err)
		}
	}
}

// TestUploadSourceBreaks: what came before the break stays, and is hashed once.
func TestUploadSourceBreaks(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	id, err := s.StartUpload(name("a"), "p", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("hello "), errReader{io.ErrUnexpectedEOF})
	if n, err := s.WriteUpload(t.Context(), name("a"), "p", id, 0, broken); !errors.Is(err, io.ErrUnexpectedEOF) || n != 6 {
		t.Fatalf("write: %d, %v", n, err)
	}
	broken = io.MultiReader(strings.NewReader("wor"), errReader{io.ErrUnexpectedEOF})
	if err := s.FinishUpload(t.Context(), name("a"), "p", id, 6, broken, sum([]byte("hello world"))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("finish: %v", err)
	}
	if err := s.FinishUpload(t.Context(), name("a"), "p", id, 9, strings.NewReader("ld"), sum([]byte("hello world"))); err != nil {
		t.Fatal(err)
	}
}

// TestUploadPipes: however a large request ends, the next ones find as many tokens as before.
func TestUploadPipes(t *testing.T) {
	on := false
	o := testingOptions(t.TempDir())
	o.hook = failAt(durable.StepWrite, syscall.ENOSPC, &on)
	s := open(t, o)
	large := strings.Repeat("x", 2*uploadBuffer)
	for _, tt := range []struct {
		name string
		body io.Reader
		want error
	}{
		{"whole", strings.NewReader(large), nil},
		{"cut", io.MultiReader(strings.NewReader(large), errReader{io.ErrUnexpectedEOF}), ErrReceive},
		{"full", io.MultiReader(strings.NewReader(large[:uploadBuffer]), fillsDisk{&on}, strings.NewReader(large)), ErrFull},
	} {
		id, err := s.StartUpload(name("a"), "p", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteUpload(t.Context(), name("a"), "p", id, 0, tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if n := len(s.uploads.pipes); n != 0 {
			t.Errorf("%s: %d tokens are not given back", tt.name, n)
		}
	}
	on = false
}

type errReader struct{ err error }

// fillsDisk is an empty reader that sets on, while no write is on its way.
type fillsDisk struct{ on *bool }

func (r fillsDisk) Read([]byte) (int, error) {
	*r.on = true
	return 0, io.EOF
}

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestUploadsExpire: sessions without progress go, with their files.
func TestUploadsExpire(t *testing.T) {
	c := newClock(time.Unix(1_000_000, 0))
	dir := t.TempDir()
	o := testingOptions(dir)
	o.Now = c.Now
	s := open(t, o)
	empty, err := s.StartUpload(name("a"), "p", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.StartUpload(name("a"), "p", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteUpload(t.Context(), name("a"), "p", full, 0, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	there := func(id string) bool {
		_, err := s.UploadOffset(name("a"), "p", id)
		return err == nil
	}
	for _, tt := range []struct {
		after       time.Duration
		empty, full bool
	}{{59 * time.Minute, true, true}, {2 * time.Hour, false, true}, {23 * time.Hour, false, true}, {25 * time.Hour, false, false}} {
		c.set(time.Unix(1_000_000, 0).Add(tt.after))
		s.uploads.expire(t.Context(), s)
		if there(empty) != tt.empty || there(full) != tt.full {
			t.Errorf("after %v: empty %v, full %v; want %v, %v", tt.after, there(empty), there(full), tt.empty, tt.full)
		}
	}
	if left := uploadsLeft(t, dir); left != 0 {
		t.Errorf("%d uploads left", left)
	}
}

// fakeSpace makes the store believe that so many bytes are free, less what it writes.
func fakeSpace(s *Store, free int64) {
	s.space.checked.Store(1 << 62)
	s.space.free.Store(free)
	s.space.total.Store(1 << 30)
}

// TestFullDuringUpload: a large upload stops while there is still room for the database, and gives its bytes back.
func TestFullDuringUpload(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	kept := mustPush(t, s, "a", "kept")
	fakeSpace(s, minFree+1<<20)
	_, err := push(t, s, "a", make([]byte, 4<<20))
	if !errors.Is(err, ErrFull) || strings.Contains(err.Error(), dir) {
		t.Errorf("push: %v", err)
	}
	if left := uploadsLeft(t, dir); left != 0 {
		t.Errorf("%d uploads left", left)
	}
	if _, err := s.StartUpload(name("a"), "p", digest.SHA256); !errors.Is(err, ErrFull) {
		t.Errorf("start: %v", err)
	}
	if _, err := read(t, s, "a", kept); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := s.DeleteBlob(t.Context(), name("a"), kept, Actor{}); err != nil {
		t.Errorf("delete: %v", err)
	}
	fakeSpace(s, 1<<30)
	mustPush(t, s, "a", "it heals")
}

// TestRefusedCommitLeavesNoFile: when the row is refused, the file that was moved already goes again; when the commit
// may have happened, it stays.
func TestRefusedCommitLeavesNoFile(t *testing.T) {
	for _, uncertain := range []bool{false, true} {
		var s *Store
		armed := false
		o := testingOptions(t.TempDir())
		o.hook = func(step durable.Step, name string) error {
			if armed && step == durable.StepSyncDir && strings.HasPrefix(name, "sha256/") {
				if uncertain {
					err := error(&stateError{is: ErrReadOnly, uncertain: true})
					s.w.failed.Store(&err)
				} else {
					s.w.close()
				}
			}
			return nil
		}
		s = open(t, o)
		mustPush(t, s, "a", "first")
		armed = true
		dgst, err := push(t, s, "a", []byte("content"))
		if !errors.Is(err, ErrReadOnly) {
			t.Fatalf("push: %v", err)
		}
		_, err = os.Stat(filepath.Join(s.dir, "blobs", blobPath(dgst)))
		if (err == nil) != uncertain {
			t.Errorf("uncertain %v: file is there: %v", uncertain, err == nil)
		}
	}
}

// TestReadOnlyFileSystem: what turned read-only under the store is said so, and pulls go on.
func TestReadOnlyFileSystem(t *testing.T) {
	on := false
	o := testingOptions(t.TempDir())
	o.hook = failAt(durable.StepWrite, syscall.EROFS, &on)
	s := open(t, o)
	dgst := mustPush(t, s, "a", "content")
	on = true
	if _, err := push(t, s, "a", []byte("more")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("push: %v", err)
	}
	if err := s.Writable(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("writable: %v", err)
	}
	if _, err := read(t, s, "a", dgst); err != nil {
		t.Errorf("read: %v", err)
	}
}

// TestMovedDirectory: a store whose directory was replaced must not write into somebody else's.
func TestMovedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, testingOptions(dir))
	mustPush(t, s, "a", "content")
	if err := os.Rename(filepath.Join(dir, "blobs"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	s.space.checked.Store(0)
	if err := s.Writable(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("writable: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
}
