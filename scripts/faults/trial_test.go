//go:build faults

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cubby/scripts/process"
)

// A trial is one run of a scenario in which something goes wrong at a step, and what comes after.
type trial struct {
	*base
	scenario
	t *testing.T

	home  string // of this trial
	apart string // the same on another file system
	data  string // the data directory

	server *process.Server
	ledger *process.Ledger
	runs   int // how often the scenario has begun
}

// newTrial copies the base. Everything is gone after end.
func newTrial(t *testing.T, b *base, sc scenario) *trial {
	t.Helper()
	tr := &trial{base: b, scenario: sc, t: t, ledger: b.ledger}
	var err error
	if tr.home, err = os.MkdirTemp(filepath.Dir(b.dir), "trial-"); err != nil {
		t.Fatal(err)
	}
	if tr.apart, err = os.MkdirTemp("/dev/shm", "cubby-trial-"); err != nil {
		t.Fatal(err)
	}
	tr.data = filepath.Join(tr.home, "data")
	if sc.empty {
		tr.ledger = process.NewLedger(nil)
	} else if out, err := exec.Command("cp", "-a", b.dir, tr.data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return tr
}

func (tr *trial) end() {
	if tr.server != nil {
		tr.server.Kill()
	}
	if err := errors.Join(os.RemoveAll(tr.home), os.RemoveAll(tr.apart)); err != nil {
		tr.t.Error(err)
	}
}

// errEnded says that the server ended before it served.
var errEnded = errors.New("the server did not start")

// strike runs the scenario with something going wrong at a step; 0 is none.
func (tr *trial) strike(at int, how string) error {
	tr.t.Helper()
	armed := filepath.Join(tr.home, "armed")
	faulty := process.Faulty(tr.t, "--gc-every", "0")
	fault := "arm=" + armed + " log=" + filepath.Join(tr.home, "steps")
	if at > 0 {
		fault += fmt.Sprintf(" at=%d how=%s", at, how)
	}
	faulty.Env = append(faulty.Env, "CUBBY_FAULT="+fault)
	if tr.start {
		tr.arm(armed)
	}
	tr.server = faulty.Launch(tr.t, tr.data)
	if !tr.server.Serves(tr.t) {
		return errEnded
	}
	tr.ledger = tr.ledger.Of(process.NewClient(tr.server.URL))
	if !tr.start {
		tr.arm(armed)
	}
	return tr.again()
}

func (tr *trial) arm(file string) {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		tr.t.Fatal(err)
	}
}

// again runs the scenario on the server that is there.
func (tr *trial) again() error {
	tr.runs++
	return tr.run(tr)
}

// restart starts the program as it is shipped on what the faulty one has left.
func (tr *trial) restart() {
	tr.t.Helper()
	tr.server.Kill()
	tr.server = process.Program(tr.t, "--gc-every", "0").Start(tr.t, tr.data)
	tr.ledger = tr.ledger.Of(process.NewClient(tr.server.URL))
}

// A step is a line of the log of steps.
type step struct {
	kind string
	name string // with data/ or that of a backup in front
}

// steps returns what was counted.
func (tr *trial) steps() (all []step) {
	tr.t.Helper()
	raw, err := os.ReadFile(filepath.Join(tr.home, "steps"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tr.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != fmt.Sprint(len(all)+1) {
			tr.t.Fatalf("line %d of the steps is %q", len(all)+1, line)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(fields[2], tr.home+"/"), tr.apart+"/")
		all = append(all, step{fields[1], name})
	}
	return all
}

// A tally counts over trials that run side by side.
type tally struct {
	mu            sync.Mutex
	struck        int
	gone          int // points that were not reached
	lost, corrupt []string

	// Of steps that failed:
	acknowledged []string // what succeeded all the same, and must not
	repeated     []string // synced again, with nothing new to sync
	deaths       int      // of the process
	sick         []string // neither healed nor read-only and saying so
	readOnly     int
}

func (s *tally) add(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// verify compares what is served with what must be, and notes what is not.
func (tr *trial) verify(s *tally, what string) {
	tr.t.Helper()
	lost, corrupt, err := tr.ledger.Verify()
	if err != nil {
		tr.t.Fatalf("%s: %v", what, err)
	}
	tr.note(s, what, lost, corrupt)
}

// settle is verify after a restart.
func (tr *trial) settle(s *tally, what string) {
	tr.t.Helper()
	lost, corrupt, err := tr.ledger.Settle()
	if err != nil {
		tr.t.Fatalf("%s: %v", what, err)
	}
	tr.note(s, what, lost, corrupt)
}

// check notes what `cubby check --deep` finds.
func (tr *trial) check(s *tally, what string) {
	tr.t.Helper()
	tr.note(s, what, nil, process.Program(tr.t).Problems(tr.t, tr.data))
}

func (tr *trial) note(s *tally, what string, lost, corrupt []string) {
	tr.t.Helper()
	s.add(func() { s.lost, s.corrupt = append(s.lost, lost...), append(s.corrupt, corrupt...) })
	if len(lost)+len(corrupt) > 0 {
		tr.t.Errorf("%s: lost %q, corrupt %q", what, lost, corrupt)
	}
}

// A point is a step of a scenario and what goes wrong there.
type point struct {
	scenario scenario
	at       int
	step     step // as it was when nothing went wrong
	how      string
}

func (p point) String() string {
	return fmt.Sprintf("%s, step %d (%s %s), %s", p.scenario.name, p.at, p.step.kind, p.step.name, p.how)
}

// points finds out which steps the scenarios take and returns a point for each and each of hows, as far as a step can
// go wrong so.
func points(t *testing.T, b *base, hows ...string) (all []point) {
	t.Helper()
	for _, sc := range scenarios {
		tr := newTrial(t, b, sc)
		err := tr.strike(0, "")
		steps := tr.steps()
		tr.end()
		if err != nil || len(steps) == 0 {
			t.Fatalf("%s, with nothing going wrong: %v, %d steps", sc.name, err, len(steps))
		}
		for i, s := range steps {
			for _, how := range hows {
				if how != "short" || s.kind == "write" {
					all = append(all, point{sc, i + 1, s, how})
				}
			}
		}
	}
	return all
}

// sample returns at most n of the points, of each scenario about as many.
func sample(all []point, n int, seed uint64) (some []point) {
	left := make(map[string][]point)
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(all)) {
		p := all[i]
		left[p.scenario.name] = append(left[p.scenario.name], p)
	}
	for n = min(n, len(all)); len(some) < n; {
		for _, sc := range scenarios {
			if of := left[sc.name]; len(of) > 0 && len(some) < n {
				some, left[sc.name] = append(some, of[0]), of[1:]
			}
		}
	}
	return some
}

// tries is how often a trial is made until its step is reached. Collection does in one transaction what it has time for,
// so it may take fewer steps than before.
const tries = 5

// each tries the points, two at a time. try returns false when the step was not reached; that may happen now and then.
func (s *tally) each(t *testing.T, some []point, try func(t *testing.T, p point) bool) {
	t.Helper()
	defer func() {
		if s.gone > len(some)/20 {
			t.Errorf("%d of %d points were not reached", s.gone, len(some))
		}
	}()
	queue := make(chan point, len(some))
	for _, p := range some {
		queue <- p
	}
	close(queue)
	t.Run("points", func(t *testing.T) {
		for i := range 2 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for p := range queue {
					if !t.Run(p.String(), func(t *testing.T) {
						for range tries {
							if try(t, p) {
								s.add(func() { s.struck++ })
								return
							}
						}
						s.add(func() { s.gone++ })
					}) {
						return
					}
				}
			})
		}
	})
}
