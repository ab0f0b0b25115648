//go:build faults

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)
	// fuzzExecs is in the line that the fuzzer writes every three seconds and at its end. The inputs that a target comes
	// with are not counted in it.
	fuzzExecs = regexp.MustCompile(`execs: (\d+)`)
)

const (
	// fuzzSlack is how long a target may take to begin and to end, beside its time.
	fuzzSlack = 2 * time.Minute
	// targetsMin is how many there must be at least: fewer say that they are not found.
	targetsMin = 16
)

// TestFuzz runs every fuzz target of the module for $CUBBY_SIZE seconds (T-10). What makes one fail is written to testdata
// of its package, as go test -fuzz does.
func TestFuzz(t *testing.T) {
	seconds := figures.Size(t, 1)
	all := fuzzTargets(t)
	var targets, execs int
	var crashers []string
	dirs, programs := slices.Sorted(maps.Keys(all)), process.Dir(t)
	// To be guided by coverage everything is compiled anew, SQLite too, and for one package at a time. That takes minutes,
	// which a second of each target is not worth.
	if seconds > 1 {
		for dir := range slices.Chunk(dirs, 1) {
			buildFuzz(t, programs, dir, "-fuzz=.")
		}
	} else {
		buildFuzz(t, programs, dirs)
	}
	for _, dir := range dirs {
		program := filepath.Join(programs, filepath.Base(dir)+".test")
		for _, name := range all[dir] {
			targets++
			n, err := fuzz(t, dir, program, name, seconds)
			execs += n
			if err != nil {
				crashers = append(crashers, name)
				t.Errorf("%s in %s: %v", name, dir, err)
			}
		}
	}
	if targets < targetsMin {
		t.Errorf("%d targets, want at least %d", targets, targetsMin)
	}
	figures.Row{ID: "T-10", Test: fmt.Sprintf("every fuzz target of the module for %d s, each with a property that must hold", seconds), Figures: []figures.Figure{
		figures.Count("targets", targets), figures.Count("executions", execs), figures.Count("crashers", len(crashers)),
	}}.Report(t)
}

// buildFuzz makes a program of the tests of each package.
func buildFuzz(t *testing.T, to string, dirs []string, flags ...string) {
	t.Helper()
	build := exec.Command("go", slices.Concat([]string{"test", "-c", "-o", to + "/"}, flags, dirs)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fuzzTargets returns the fuzz targets of the module by the directory of their package. Modules inside it are not of it.
func fuzzTargets(t *testing.T) map[string][]string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range fuzzTarget.FindAllStringSubmatch(string(text), -1) {
			all[filepath.Dir(path)] = append(all[filepath.Dir(path)], m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// fuzz runs one target and returns how often it was executed.
func fuzz(t *testing.T, dir, program, name string, seconds int) (execs int, err error) {
	t.Helper()
	// What was found before is not used: a run is to tell the same everywhere.
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^$", "-test.fuzz=^"+name+"$", fmt.Sprintf("-test.fuzztime=%ds", seconds),
		"-test.fuzzcachedir="+process.Dir(t), "-test.parallel=2")
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which ends its workers too
	cmd.WaitDelay = 10 * time.Second
	limit := time.AfterFunc(time.Duration(seconds)*time.Second+fuzzSlack, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer limit.Stop()
	started := time.Now()
	out, err := cmd.CombinedOutput()
	// The end of the time may be reported as a failure (go.dev/issue/75804). One of the target is written to testdata.
	switch {
	case err == nil:
	case bytes.Contains(out, []byte("    context deadline exceeded\n")) && !bytes.Contains(out, []byte("Failing input written")):
		err = nil
	default:
		err = fmt.Errorf("%w\n%s", err, out)
	}
	for _, m := range fuzzExecs.FindAllStringSubmatch(string(out), -1) {
		n, numberErr := strconv.Atoi(m[1])
		execs, err = n, errors.Join(err, numberErr)
	}
	t.Logf("%s: %d executions in %v", name, execs, time.Since(started).Round(time.Second))
	if err == nil && !bytes.Contains(out, []byte("fuzz: elapsed")) {
		err = fmt.Errorf("it was not run\n%s", out)
	}
	return execs, err
}
