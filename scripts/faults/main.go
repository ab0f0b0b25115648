// The program faults runs the tests of what must hold when things go wrong, and makes one table of their figures.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cubby/scripts/figures"
)

// A row says how one test of the programme is run.
type row struct {
	id          string
	pkg, run    string // package below the module, and pattern of its tests
	quick, full int    // $CUBBY_SIZE of the two forms; 0: no such thing
	tags        string
	root        bool // it mounts or traces
	limit       time.Duration
}

// rows in the order of the table. The sizes of the full form are what the table of the README is about; those of the
// quick form are what the gate has time for. Fuzzing is not in it: what it happens to find need not be of the change that
// is to pass.
var rows = []row{
	{id: "T-1", pkg: ".", run: "^TestKill$", quick: 60, full: 1000, limit: 40 * time.Minute},
	{id: "T-1b", pkg: "./scripts/faults", run: "^TestCrashPoints$", quick: 32, full: 10_000, tags: "faults", limit: 30 * time.Minute},
	{id: "T-2", pkg: "./scripts/faults", run: "^TestPowerCut$", quick: 24, full: 240, tags: "faults", root: true, limit: 30 * time.Minute},
	{id: "T-2r", pkg: "./scripts/faults", run: "^TestPushesPowerCut$", quick: 6, full: 120, tags: "faults", root: true, limit: 20 * time.Minute},
	{id: "T-4", pkg: "./scripts/faults", run: "^TestTags$", quick: 200, full: 1000, tags: "faults", limit: 20 * time.Minute},
	{id: "T-6", pkg: "./scripts/faults", run: "^TestFull$", quick: 6, full: 64, tags: "faults", root: true, limit: 20 * time.Minute},
	{id: "T-7", pkg: "./scripts/faults", run: "^TestStepErrors$", quick: 24, full: 10_000, tags: "faults", limit: 40 * time.Minute},
	{id: "T-7b", pkg: "./scripts/faults", run: "^TestDatabaseErrors$", quick: 1, full: 6, tags: "faults", root: true, limit: 20 * time.Minute},
	{id: "T-7c", pkg: "./scripts/faults", run: "^TestDescriptors$", quick: 2, full: 20, tags: "faults", limit: 10 * time.Minute},
	{id: "T-8", pkg: "./scripts/faults", run: "^TestPlace$", quick: 1, full: 1, tags: "faults", root: true, limit: 10 * time.Minute},
	{id: "T-9", pkg: "./scripts/faults", run: "^TestBitRot$", quick: 60, full: 1000, tags: "faults", limit: 20 * time.Minute},
	{id: "T-9d", pkg: "./scripts/faults", run: "^TestPageRot$", quick: 16, full: 300, tags: "faults", limit: 20 * time.Minute},
	{id: "T-9r", pkg: "./scripts/faults", run: "^TestBitRotElsewhere$", quick: 20, full: 1000, tags: "faults", limit: 20 * time.Minute},
	{id: "T-10", pkg: "./scripts/faults", run: "^TestFuzz$", full: 12, tags: "faults", limit: 40 * time.Minute},
	{id: "T-12", pkg: "./scripts/faults", run: "^TestMalformed$", quick: 900, full: 3000, tags: "faults", limit: 20 * time.Minute},
	{id: "T-15", pkg: "./scripts/faults", run: "^TestAttacks$", quick: 2, full: 20, tags: "faults", limit: 20 * time.Minute},
	{id: "T-16", pkg: "./gc", run: "^TestModel$", quick: 250, full: 2000, limit: 20 * time.Minute},
	{id: "T-17", pkg: "./scripts/faults", run: "^TestDatabase$", quick: 2, full: 15, tags: "faults", limit: 20 * time.Minute},
	{id: "T-22", pkg: "./scripts/faults", run: "^TestMutants$", quick: 3, full: 40, tags: "faults", root: true, limit: 60 * time.Minute},
}

// A report is what scripts/faults/figures.json holds.
type report struct {
	Date   string        `json:"date"`
	Form   string        `json:"form"` // full or quick
	Commit string        `json:"commit"`
	Rows   []figures.Row `json:"rows"`
}

func main() {
	quick := flag.Bool("quick", false, "the small form, of some minutes")
	only := flag.String("only", "", "run only these rows, like T-1,T-6")
	dir := flag.String("dir", "", "keep the figures of each row here, and run no row that is here for the same commit: an interrupted run goes on")
	out := flag.String("out", "", "write all figures to this file, as scripts/faults/figures.json is written")
	table := flag.String("table", "", "run nothing: print the table of this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *table != "" {
		err = printTable(os.Stdout, *table)
	} else {
		err = run(ctx, *quick, *only, *dir, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func printTable(w io.Writer, path string) error {
	r, err := readReport(path)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, r.table())
	return err
}

func readReport(path string) (r report, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(raw, &r)
}

// run runs the rows one after another. A row that fails does not keep the others from running.
func run(ctx context.Context, quick bool, only, dir, out string) error {
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return fmt.Errorf("git describe: %w", err)
	}
	all := report{Date: time.Now().UTC().Format(time.DateOnly), Form: "full", Commit: strings.TrimSpace(string(commit))}
	if quick {
		all.Form = "quick"
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "cubby-faults-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	dir = filepath.Join(dir, all.Commit)
	if strings.HasSuffix(all.Commit, "-dirty") { // figures of it may be of another tree
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var failed, left []string
	for _, r := range rows {
		size := r.full
		if quick {
			size = r.quick
		}
		switch {
		case only != "" && !slices.Contains(strings.Split(only, ","), r.id), quick && size == 0:
			continue
		case r.root && os.Geteuid() != 0:
			left = append(left, r.id)
			continue
		}
		seen, err := r.figures(ctx, dir, size)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "faults: %s: %v\n", r.id, err)
			failed = append(failed, r.id)
			continue
		}
		all.Rows = append(all.Rows, seen)
	}
	fmt.Print("\n", all.table())
	if len(left) > 0 {
		fmt.Printf("Left out, they need root: %s.\n", strings.Join(left, ", "))
	}
	if out != "" {
		if err := all.write(out); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

// figures runs the test, unless an earlier run of it is in dir, and returns what it saw.
func (r row) figures(ctx context.Context, dir string, size int) (seen figures.Row, err error) {
	file := filepath.Join(dir, fmt.Sprintf("%s-%d.json", r.id, size))
	raw, err := os.ReadFile(file)
	if err == nil {
		return seen, json.Unmarshal(raw, &seen)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return seen, err
	}
	started := time.Now()
	fmt.Printf("=== %s: go test %s -run '%s'\n", r.id, r.pkg, r.run)
	// -v, so that an interrupted or failed run has told its seed.
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-tags", r.tags, "-timeout", r.limit.String(), "-run", r.run, r.pkg)
	cmd.Env = append(os.Environ(), "CUBBY_FIGURES="+dir, "CUBBY_SIZE="+strconv.Itoa(cmp.Or(size, 1)))
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return seen, err
	}
	written := filepath.Join(dir, r.id+".json")
	if raw, err = os.ReadFile(written); err != nil {
		return seen, fmt.Errorf("the test passed and reported nothing: %w", err)
	}
	if err := json.Unmarshal(raw, &seen); err != nil {
		return seen, err
	}
	seen.Seconds = int(time.Since(started).Seconds())
	if raw, err = json.Marshal(seen); err != nil {
		return seen, err
	}
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		return seen, err
	}
	return seen, os.Remove(written)
}

func (r report) write(path string) error {
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// table returns the rows in Markdown.
func (r report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | What was done | What was seen | Seed | Seconds |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		var seen []string
		for _, f := range row.Figures {
			seen = append(seen, f.Value+" "+f.Name)
		}
		seed := ""
		if row.Seed != 0 {
			seed = strconv.FormatUint(row.Seed, 10)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", row.ID, row.Test, strings.Join(seen, ", "), seed, row.Seconds)
	}
	fmt.Fprintf(&b, "\nSeen by the %s form on %s, at commit %s.\n", r.Form, r.Date, r.Commit)
	return b.String()
}
