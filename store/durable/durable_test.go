package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestWriteFile: the bytes are on disk before the name is, and the name before it is said so; whatever step fails, the
// file has its old content or its new one.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	var steps []string
	fail := Step("")
	d, err := Open(dir, func(step Step, name string) error {
		steps = append(steps, string(step)+" "+name)
		if step == fail {
			return syscall.EIO
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	content := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "in", "file"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := d.WriteFile("in/file", "in", []byte("old")); err != nil || content() != "old" {
		t.Fatalf("%q, %v", content(), err)
	}
	want := []string{"remove in/file.new", "create in/file.new", "write in/file.new", "sync in/file.new", "rename in/file", "syncdir in"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	for _, tt := range []struct {
		fail Step
		want string
	}{
		{StepRemove, "old"}, {StepCreate, "old"}, {StepWrite, "old"}, {StepSync, "old"}, {StepRename, "old"},
		{StepSyncDir, "new"}, // the name may be the new one, or the old one after a power cut
	} {
		fail = tt.fail
		if err := d.WriteFile("in/file", "in", []byte("new")); !errors.Is(err, syscall.EIO) || content() != tt.want {
			t.Errorf("%s fails: %q, %v; want %q", tt.fail, content(), err, tt.want)
		}
	}
}

// openLinked makes symbolic links in a directory and opens it.
func openLinked(t *testing.T, dir string, links map[string]string) *Dir {
	t.Helper()
	for link, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestOpen reads through symbolic links that stay within the directory, and through none that leave it.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openLinked(t, dir, map[string]string{"link": "real", "out": t.TempDir()})
	for _, name := range []string{"real/file", "link/file"} {
		f, err := d.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if content, err := io.ReadAll(f); err != nil || string(content) != "content" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		f.Close()
	}
	if _, err := d.Open("real/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	for _, name := range []string{"../" + filepath.Base(dir) + "/real/file", "out"} {
		if f, err := d.Open(name); err == nil {
			f.Close()
			t.Errorf("%s can be opened", name)
		}
	}
}

// TestStatLink: a symbolic link is the file that it leads to, and nothing when that is outside of the directory.
func TestStatLink(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	for _, path := range []string{filepath.Join(dir, "file"), outside} {
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := openLinked(t, dir, map[string]string{"link": "file", "out": outside, "none": "gone"})
	file, err := d.Stat("file")
	if err != nil {
		t.Fatal(err)
	}
	if link, err := d.Stat("link"); err != nil || link != file {
		t.Errorf("link: %+v, %v; want %+v", link, err, file)
	}
	if out, err := d.Stat("out"); err == nil {
		t.Errorf("out: %+v", out)
	}
	if _, err := d.Stat("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// TestStat: a file is told from another one, and from itself with other content; a name that is not there is fs.ErrNotExist.
func TestStat(t *testing.T) {
	dir := t.TempDir()
	d := openLinked(t, dir, nil)
	if _, err := d.Stat("file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	path := filepath.Join(dir, "file")
	write := func(content string, modified time.Time) Stat {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
		s, err := d.Stat("file")
		if err != nil || s.Size != int64(len(content)) {
			t.Fatalf("%+v, %v", s, err)
		}
		info, err := os.Stat(path)
		if err != nil || StatOf(info) != s {
			t.Fatalf("%+v is another file than %+v, %v", StatOf(info), s, err)
		}
		return s
	}
	then := time.Unix(1_000_000, 1)
	first := write("content", then)
	if again := write("content", then); again != first {
		t.Errorf("%+v is another file than %+v", again, first)
	}
	if later := write("cOntent", then.Add(time.Nanosecond)); later == first {
		t.Error("a change went unnoticed")
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if other := write("content", then); other == first {
		t.Error("another file of the same size and time is taken for the first")
	}
}
