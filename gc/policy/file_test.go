package policy

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFile: a change is taken over, what is invalid or missing is not, and each is told once.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cubby.yaml")
	write := func(text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	one, two := `keep: [{repositories: "**", untagged: 1d}]`, `keep: [{repositories: "**", untagged: 2d}]`
	if _, err := Open(path, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("opened a file that is not there")
	}
	if err := write("nonsense: 1")(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("opened an invalid file, or did not name it: %v", err)
	}
	if err := write(one)(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f, err := Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		what    string
		do      func() error
		changed bool
		days    int    // of the keep time in force
		problem string // "" for none
		log     string
	}{
		{"nothing", func() error { return nil }, false, 1, "", ""},
		{"a new file", write(two), true, 2, "", "taken over"},
		{"invalid", write("keep: 3"), true, 2, "line 1", "stays in force"},
		{"nothing", func() error { return nil }, false, 2, "line 1", ""},
		{"invalid otherwise", write("keep: [{}]"), true, 2, "repositories is missing", "repositories is missing"},
		{"empty, as while it is written", write(""), true, 2, "empty", "empty"},
		{"back to what is in force", write(two), true, 2, "", "taken over"},
		{"gone", func() error { return os.Remove(path) }, true, 2, "no such file", "no such file"},
		{"nothing", func() error { return nil }, false, 2, "no such file", ""},
		{"back", write(two), true, 2, "", "taken over"},
		{"too large", write(two + "\n#" + strings.Repeat("x", fileMax)), true, 2, "larger than", "larger than"},
		{"as before", write(two), true, 2, "", "taken over"},
		{"a pipe", func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, true, 2, "not a plain file", "not a plain file"},
		{"nothing", func() error { return nil }, false, 2, "not a plain file", ""},
		{"no pipe", func() error { return errors.Join(os.Remove(path), write(two)()) }, true, 2, "", "taken over"},
		{"another", write(one), true, 1, "", "taken over"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		changed := f.Reload()
		problem := ""
		if err := f.Problem(); err != nil {
			problem = err.Error()
		}
		days := int(f.Policy().Keep(name("a")).Untagged.Hours() / 24)
		if changed != step.changed || days != step.days || (problem == "") != (step.problem == "") || !strings.Contains(problem, step.problem) {
			t.Errorf("step %d, %s: changed %v, %d days, problem %q; want %v, %d, %q", i, step.what, changed, days, problem, step.changed, step.days, step.problem)
		}
		if (log.Len() == 0) != (step.log == "") || !strings.Contains(log.String(), step.log) {
			t.Errorf("step %d, %s: the log says %q, want %q", i, step.what, log.String(), step.log)
		}
	}
}

// TestSettled: a change is taken over when it is some time old, because the file may be half written.
func TestSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cubby.yaml")
	write := func(days string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(`keep: [{repositories: "**", untagged: `+days+`}]`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1d")
	f, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write("2d")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Settled(t.Context())
	if days := f.Policy().Keep(name("a")).Untagged.Hours() / 24; days != 2 || time.Since(info.ModTime()) < settleTime {
		t.Errorf("%v days when the change was %v old", days, time.Since(info.ModTime()))
	}
}
