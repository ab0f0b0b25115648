//go:build faults

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// mutantMax bounds one run of go test: a mutant may make its test wait for what never comes.
const mutantMax = 3 * time.Minute

// A mutant is a patch of mutants/ that takes one line out of the code which safety rests on.
type mutant struct {
	file     string // absolute
	removes  string
	pkg, run string // the test that must fail without the line
}

func (m mutant) name() string {
	return strings.TrimSuffix(filepath.Base(m.file), ".patch") + " (" + m.removes + ")"
}

// test returns the name of its test as go test prints it.
func (m mutant) test() string { return strings.NewReplacer("^", "", "$", "").Replace(m.run) }

// mutantHead is what stands above the diff of a mutant.
var mutantHead = regexp.MustCompile(`\ARemoves: (.+)\nTest: (\S+) -run '(\^Test[^ ']+\$)'\n`)

func readMutants(t *testing.T) (all []mutant) {
	t.Helper()
	files, err := filepath.Glob("mutants/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head := mutantHead.FindStringSubmatch(string(raw))
		if head == nil {
			t.Fatalf("%s does not begin with what it removes and its test", file)
		}
		if file, err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
		all = append(all, mutant{file, head[1], head[2], head[3]})
	}
	return all
}

// TestMutants takes lines out of the code which safety rests on, one at a time, and wants the test of each to fail.
// CUBBY_SIZE is the number of mutants.
func TestMutants(t *testing.T) {
	process.NeedTool(t, "git", "strace")
	all, seed := readMutants(t), figures.Seed(t)
	dir := copySources(t)
	for _, m := range all {
		if err := dir.patch(t, m, "--check"); err != nil {
			t.Errorf("%s: %v", m.name(), err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	chosen := slices.Clone(all)
	rng := rand.New(rand.NewPCG(seed, 22))
	rng.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	chosen = chosen[:min(figures.Size(t, 3), len(chosen))]
	dir.wantPass(t, chosen)
	if t.Failed() {
		t.FailNow() // nothing that comes would mean anything
	}
	caught, survived := 0, 0
	for _, m := range chosen {
		started := time.Now()
		if err := dir.patch(t, m); err != nil {
			t.Fatalf("%s: %v", m.name(), err)
		}
		out, failed := dir.run(t, m.pkg, m.run)
		switch broken := regexp.MustCompile(`\[(build|setup) failed\]|(?m)^panic: `).FindString(out); {
		case broken != "":
			t.Errorf("%s: %s\n%s", m.name(), broken, out)
		case failed && strings.Contains(out, "--- FAIL: "+m.test()+" ("):
			caught++
		default:
			survived++
			t.Errorf("survived: %s: %s %s\n%s", m.name(), m.pkg, m.test(), out)
		}
		t.Logf("%s: %v", m.name(), time.Since(started).Round(time.Second/10))
		if err := dir.patch(t, m, "-R"); err != nil {
			t.Fatalf("%s: %v", m.name(), err)
		}
	}
	figures.Row{ID: "T-22", Test: "a line that safety rests on is taken out, and its test must fail", Seed: seed, Figures: []figures.Figure{
		figures.Count("mutants", len(chosen)), figures.Count("caught", caught), figures.Count("survived", survived),
	}}.Report(t)
}

// sources is a copy of the source tree.
type sources string

// copySources copies what is tracked, as it is in the work tree.
func copySources(t *testing.T) sources {
	t.Helper()
	const root = "../.."
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	dir := process.Dir(t)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed in the work tree
		}
		to := filepath.Join(dir, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, raw, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sources(dir)
}

// command returns a command in the copy. It does not know of this test's figures, nor git of a repository around it.
func (s sources) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = string(s)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CUBBY_") || strings.HasPrefix(v, "GIT_") })
	// In CI a test whose tool is missing fails. Without debug information tests are linked faster.
	cmd.Env = append(cmd.Env, "CI=true", "GOFLAGS="+os.Getenv("GOFLAGS")+" -ldflags=-w", "GIT_CEILING_DIRECTORIES="+filepath.Dir(string(s)))
	return cmd
}

func (s sources) patch(t *testing.T, m mutant, flags ...string) error {
	out, err := s.command(t.Context(), "git", slices.Concat([]string{"apply"}, flags, []string{m.file})...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git apply %s: %w\n%s", strings.Join(flags, " "), err, out)
	}
	return nil
}

// run runs tests of a package, and returns what they print and whether they failed.
func (s sources) run(t *testing.T, pkg, pattern string) (out string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*mutantMax)
	defer cancel()
	var text bytes.Buffer
	cmd := s.command(ctx, "go", "test", "-count=1", "-v", "-vet=off", "-timeout", mutantMax.String(), "-run", pattern, pkg)
	cmd.Stdout, cmd.Stderr = &text, &text
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		t.Fatalf("go test -run '%s' %s: %v\n%s", pattern, pkg, err, &text)
	}
	return text.String(), err != nil
}

// wantPass fails the test unless the tests of some mutants pass on sources that are whole.
func (s sources) wantPass(t *testing.T, mutants []mutant) {
	t.Helper()
	patterns := make(map[string][]string) // by package
	for _, m := range mutants {
		if !slices.Contains(patterns[m.pkg], m.run) {
			patterns[m.pkg] = append(patterns[m.pkg], m.run)
		}
	}
	outputs := make(map[string]string)
	for pkg, patterns := range patterns {
		outputs[pkg], _ = s.run(t, pkg, strings.Join(patterns, "|"))
	}
	for _, m := range mutants {
		if !strings.Contains(outputs[m.pkg], "--- PASS: "+m.test()+" (") {
			t.Errorf("without mutants: %s %s does not pass\n%s", m.pkg, m.test(), outputs[m.pkg])
		}
	}
}
