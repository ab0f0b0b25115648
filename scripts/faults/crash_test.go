//go:build faults

package main

import (
	"syscall"
	"testing"
	"time"

	"cubby/scripts/figures"
)

// TestCrashPoints kills the program before and after each of its steps, in every scenario. After a restart everything
// that was acknowledged must be served, what was in flight be whole or absent, and the same succeed.
func TestCrashPoints(t *testing.T) {
	seed := figures.Seed(t)
	b, seen := newBase(t), &tally{}
	all := points(t, b, "before", "after")
	some := sample(all, figures.Size(t, 40), seed)
	seen.each(t, some, func(t *testing.T, p point) bool { return crash(t, b, p, seen) })
	figures.Row{ID: "T-1b", Test: "the process killed before and after each step on the disk, in every scenario", Seed: seed, Figures: []figures.Figure{
		figures.Count("scenarios", len(scenarios)), figures.Count("crash points", len(all)-seen.gone), figures.Count("covered", seen.struck),
		figures.Count("lost", len(seen.lost)), figures.Count("corrupt", len(seen.corrupt)),
	}}.Report(t)
}

// crash makes a trial of a point. It returns false when the process did not come there.
func crash(t *testing.T, b *base, p point, seen *tally) bool {
	t.Helper()
	tr := newTrial(t, b, p.scenario)
	defer tr.end()
	err := tr.strike(p.at, p.how)
	if len(tr.steps()) < p.at {
		if err != nil {
			t.Fatalf("%v before its step: %v", p, err)
		}
		return false
	}
	state := tr.server.Wait(t, 10*time.Second)
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%v: the process ended with %v", p, state)
	}
	tr.restart()
	tr.check(seen, "check after "+p.String())
	tr.settle(seen, "after "+p.String())
	if err := tr.again(); err != nil {
		t.Errorf("again after %v: %v", p, err)
	}
	tr.verify(seen, "again after "+p.String())
	return true
}
