//go:build faults

package main

import (
	"net/http"
	"path"
	"slices"
	"syscall"
	"testing"
	"time"

	"cubby/scripts/figures"
)

// TestStepErrors fails each step of every scenario in each way a disk does. No write whose sync or commit failed is
// acknowledged, the process goes on, pulls too, and the same succeeds on a second try, unless the store is read-only and
// says so. After a restart everything that was acknowledged is served, and the same succeeds in any case.
func TestStepErrors(t *testing.T) {
	seed := figures.Seed(t)
	b, seen := newBase(t), &tally{}
	all := points(t, b, "EIO", "ENOSPC", "EROFS", "EMFILE", "short")
	seen.each(t, sample(all, figures.Size(t, 40), seed), func(t *testing.T, p point) bool { return fail(t, b, p, seen) })
	figures.Row{ID: "T-7", Test: "each step on the disk failing with EIO, ENOSPC, EROFS, EMFILE and a short write, in every scenario", Seed: seed, Figures: []figures.Figure{
		figures.Count("ways to fail", len(all)-seen.gone), figures.Count("faults injected", seen.struck),
		figures.Count("wrong 2xx", len(seen.acknowledged)), figures.Count("syncs repeated", len(seen.repeated)),
		figures.Count("process deaths", seen.deaths), figures.Count("read-only until restart", seen.readOnly),
		figures.Count("not healed", len(seen.sick)), figures.Count("lost", len(seen.lost)), figures.Count("corrupt", len(seen.corrupt)),
	}}.Report(t)
}

// ofReserve reports whether the last of some steps belongs to the reserve, which is made in the background and promises
// nothing: one on its file, or the first sync of its directory after that of the file.
func ofReserve(steps []step) bool {
	last := steps[len(steps)-1]
	if last.name == "data/reserve" {
		return true
	}
	directory := step{"syncdir", "data"}
	for _, s := range slices.Backward(steps[:len(steps)-1]) {
		if last != directory || s == directory {
			return false
		}
		if s == (step{"sync", "data/reserve"}) {
			return true
		}
	}
	return false
}

// fail makes a trial of a point. It returns false when the step was not reached.
func fail(t *testing.T, b *base, p point, seen *tally) bool {
	t.Helper()
	tr := newTrial(t, b, p.scenario)
	defer tr.end()
	err := tr.strike(p.at, p.how)
	steps := tr.steps()
	if len(steps) < p.at {
		if err != nil {
			t.Fatalf("before its step: %v", err)
		}
		return false
	}
	failed := steps[p.at-1]
	if promised := failed.kind == "sync" || failed.kind == "syncdir" || failed.kind == "commit"; err == nil && promised && !tr.optional && !ofReserve(steps[:p.at]) {
		seen.add(func() { seen.acknowledged = append(seen.acknowledged, p.String()) })
		t.Errorf("it succeeded though %v failed", failed)
	}
	healed := false
	if err != errEnded {
		healed = tr.goesOn(seen, p)
	} else if state := tr.server.Wait(t, time.Second); state.ExitCode() != 1 {
		seen.add(func() { seen.deaths++ })
		t.Errorf("the process ended with %v instead of saying why it cannot start", state)
	}
	if again := repeatedSync(tr.steps(), p.at-1); again > 0 {
		seen.add(func() { seen.repeated = append(seen.repeated, p.String()) })
		t.Errorf("%v failed, and was synced again as step %d", failed, again)
	}
	tr.restart()
	tr.check(seen, "check after restart")
	tr.settle(seen, "after restart")
	if err := tr.again(); err != nil {
		t.Errorf("again after restart, healed before: %t: %v", healed, err)
	}
	tr.verify(seen, "again after restart")
	return true
}

// goesOn asks of the process in which a step failed whether it serves, and takes writes or says that it does not. Then it
// ends it as a supervisor does.
func (tr *trial) goesOn(seen *tally, p point) (healed bool) {
	tr.t.Helper()
	if !tr.server.Running() {
		seen.add(func() { seen.deaths++ })
		tr.t.Errorf("the process ended with %v", tr.server.Wait(tr.t, time.Second))
		return false
	}
	tr.verify(seen, "while it runs")
	again := tr.again()
	switch ready, err := tr.ledger.Do(http.MethodGet, "/-/readyz?for=push", nil); {
	case err != nil:
		tr.t.Fatal(err)
	case again == nil && ready.Status == http.StatusOK:
		healed = true
	case again != nil && ready.Status == http.StatusServiceUnavailable:
		seen.add(func() { seen.readOnly++ })
	case again == nil && tr.optional: // it can be looked at all the same
		seen.add(func() { seen.readOnly++ })
	default:
		seen.add(func() { seen.sick = append(seen.sick, p.String()) })
		tr.t.Errorf("again: %v, ready for pushes: %d %s", again, ready.Status, ready.Body)
	}
	tr.verify(seen, "again while it runs")
	tr.server.Signal(tr.t, syscall.SIGTERM)
	if state := tr.server.Wait(tr.t, 15*time.Second); state.ExitCode() != 0 && healed || state.ExitCode() > 1 || !state.Exited() {
		seen.add(func() { seen.deaths++ })
		tr.t.Errorf("the process ended with %v", state)
	}
	return healed
}

// repeatedSync returns the number of a step that syncs what failed to be synced, with nothing changed in it since, or 0:
// the kernel would say yes, and the bytes are lost.
func repeatedSync(steps []step, failed int) int {
	f := steps[failed]
	if f.kind != "sync" && f.kind != "syncdir" {
		return 0
	}
	for i := failed + 1; i < len(steps); i++ {
		s := steps[i]
		switch {
		case s == f:
			return i + 1
		case f.kind == "sync" && s.name == f.name && slices.Contains([]string{"create", "write", "truncate"}, s.kind):
			return 0
		case f.kind == "syncdir" && path.Dir(s.name) == f.name && s.kind != "sync" && s.kind != "write":
			return 0
		}
	}
	return 0
}
