package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
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
