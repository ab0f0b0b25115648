//go:build faults

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// A diskError is a call on a file of the database that fails.
type diskError struct {
	file, call string
	// logged is set when the store must be read-only afterwards. Without it the call belongs to a checkpoint, which
	// copies what is safe in the log: no write depends on it.
	logged bool
}

var diskErrors = []diskError{
	{"cubby.db-wal", "pwrite64", true}, {"cubby.db-wal", "fsync,fdatasync", true},
	{"cubby.db", "pwrite64", false}, {"cubby.db", "fsync,fdatasync", false},
}

// TestDatabaseErrors fails calls on the database's files below SQLite, after some writes. Nothing acknowledged is lost, a
// failed write to the log makes the store read-only until restart, which it logs once, and pulls go on.
func TestDatabaseErrors(t *testing.T) {
	process.NeedTool(t, "strace")
	process.NeedRoot(t)
	seed := figures.Seed(t)
	rng, seen, injected := rand.New(rand.NewPCG(seed, 0)), &tally{}, 0
	b := newBase(t)
	for range figures.Size(t, 2) {
		for _, e := range diskErrors {
			before := rng.IntN(6)
			ok := t.Run(fmt.Sprintf("%s of %s after %d writes", e.call, e.file, before), func(t *testing.T) { injected += e.strike(t, b, before, seen) })
			if !ok {
				break
			}
		}
	}
	figures.Row{ID: "T-7b", Test: "writes and syncs of the database and its log failing with EIO, below SQLite", Seed: seed, Figures: []figures.Figure{
		figures.Count("errors injected", injected), figures.Count("read-only until restart", seen.readOnly),
		figures.Count("lost", len(seen.lost)), figures.Count("corrupt", len(seen.corrupt)), figures.Count("not healed", len(seen.sick)),
	}}.Report(t)
}

// strike makes a trial and returns how many calls failed in it.
func (e diskError) strike(t *testing.T, b *base, before int, seen *tally) (injected int) {
	t.Helper()
	tr := newTrial(t, b, scenario{name: e.file})
	defer tr.end()
	tr.server = process.Program(t, "--gc-every", "0").Start(t, tr.data)
	tr.ledger = tr.ledger.Of(process.NewClient(tr.server.URL))
	for i := range before {
		if err := tr.large(i); err != nil {
			t.Fatal(err)
		}
	}
	trace := tr.inject(e)
	var err error
	for i := before; i < before+8 && err == nil; i++ { // some megabytes, so that a checkpoint comes
		err = tr.large(i)
	}
	injected = strings.Count(trace(), "(INJECTED)")
	if injected == 0 {
		t.Fatalf("no %s of %s in 8 writes", e.call, e.file)
	}
	tr.verify(seen, "while it runs")
	ready := tr.ledger.Want(t, http.StatusOK, http.MethodGet, "/-/readyz", nil)
	push, pushErr := tr.ledger.Do(http.MethodGet, "/-/readyz?for=push", nil)
	readOnly := pushErr == nil && push.Status == http.StatusServiceUnavailable
	lines := func() int { return strings.Count(tr.server.Log(), "store is read-only until restart\"") }
	if readOnly {
		seen.add(func() { seen.readOnly++ })
		process.Poll(t, 5*time.Second, "the log to say so", func() bool { return lines() > 0 })
	}
	if readOnly != (err != nil) || e.logged && !readOnly || readOnly != (lines() == 1) {
		t.Errorf("write: %v, read-only: %t, ready: %s, for pushes: %s, %d lines say so", err, readOnly, ready.Body, push.Body, lines())
	}
	tr.restart()
	tr.check(seen, "check after restart")
	tr.settle(seen, "after restart")
	if err := tr.large(before + 8); err != nil {
		seen.add(func() { seen.sick = append(seen.sick, e.file) })
		t.Errorf("after restart: %v", err)
	}
	tr.verify(seen, "again after restart")
	return injected
}

// large puts a manifest of a megabyte, which is kept in the database.
func (tr *trial) large(i int) error {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d","text":%q}}`,
		process.MediaTypeIndex, i, strings.Repeat("text", 1<<18))
	return tr.ledger.Put("team/large", process.Content{Digest: process.Digest(raw), MediaType: process.MediaTypeIndex, Raw: raw}, fmt.Sprint("v", i))
}

// inject attaches a tracer that fails the next such call of each thread. The returned function detaches it and returns
// what it has seen.
func (tr *trial) inject(e diskError) (end func() string) {
	tr.t.Helper()
	trace, pid := filepath.Join(tr.home, "trace"), tr.server.PID(tr.t)
	cmd := exec.Command("strace", "-f", "-p", fmt.Sprint(pid), "-o", trace, "-P", filepath.Join(tr.data, e.file),
		"-e", "trace="+e.call, "-e", "inject="+e.call+":error=EIO:when=1")
	if err := cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	detach := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it detaches
		_ = cmd.Wait()                         // and ends with the signal
	})
	tr.t.Cleanup(detach)
	process.Poll(tr.t, 10*time.Second, "the tracer to attach to every thread", func() bool {
		statuses, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil {
			tr.t.Fatal(err)
		}
		for _, status := range statuses {
			raw, err := os.ReadFile(status)
			if err == nil && strings.Contains(string(raw), "TracerPid:\t0\n") {
				return false
			}
		}
		return true
	})
	return func() string {
		detach()
		raw, err := os.ReadFile(trace)
		if err != nil {
			tr.t.Error(err)
		}
		return string(raw)
	}
}

// TestDescriptors takes all file descriptors of the process away, by connections that say nothing, while clients go on.
// When they are gone it is as before.
func TestDescriptors(t *testing.T) {
	process.NeedTool(t, "prlimit")
	b, seen := newBase(t), &tally{}
	refused := 0
	rounds := figures.Size(t, 2)
	for range rounds {
		tr := newTrial(t, b, scenario{name: "descriptors"})
		limited := process.Program(t, "--gc-every", "0")
		limited.Wrap = []string{"prlimit", "--nofile=48:48"}
		tr.server = limited.Start(t, tr.data)
		tr.ledger = tr.ledger.Of(process.NewClient(tr.server.URL))
		tr.verify(seen, "before") // its connection stays
		var idle []net.Conn
		for range 100 {
			conn, err := net.DialTimeout("tcp", strings.TrimPrefix(tr.server.URL, "http://"), time.Second)
			if err != nil {
				break // the kernel's queue is full, too
			}
			idle = append(idle, conn)
		}
		process.Poll(t, 10*time.Second, "every descriptor to be in use", func() bool {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", tr.server.PID(t)))
			return err == nil && len(open) >= 48
		})
		for i := range byte(20) {
			blob := process.RandomBlob(100+i, 1000)
			if tr.ledger.Post("team/app", blob, blob.Raw, "digest="+blob.Digest) != nil {
				refused++
			}
		}
		for _, conn := range idle {
			conn.Close()
		}
		process.Poll(t, 20*time.Second, "pushes to succeed again", func() bool {
			return tr.ledger.Post("team/app", tr.fresh[0], tr.fresh[0].Raw, "digest="+tr.fresh[0].Digest) == nil
		})
		tr.verify(seen, "afterwards")
		tr.server.Stop(t)
		tr.restart()
		tr.check(seen, "check after restart")
		tr.settle(seen, "after restart")
		tr.end()
	}
	if refused == 0 {
		t.Error("nothing was refused: there were descriptors left")
	}
	figures.Row{ID: "T-7c", Test: "all file descriptors taken by idle connections", Figures: []figures.Figure{
		figures.Count("rounds", rounds), figures.Count("pushes refused meanwhile", refused),
		figures.Count("lost", len(seen.lost)), figures.Count("corrupt", len(seen.corrupt)),
	}}.Report(t)
}
