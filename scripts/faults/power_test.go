//go:build faults

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// cutsPerStore is after how many cuts the store is made anew, on empty disks. Every other time its blobs have a disk of
// their own, so that no sync of the database is one of a blob, too.
const cutsPerStore = 12

// A powerCut is the store whose power is cut, and what must be in it.
type powerCut struct {
	rng         *rand.Rand
	data, blobs *disk
	serve       process.Command
	dir         string // of the store
	server      *process.Server
	workload    *process.Workload
}

// TestPowerCut cuts the power of the disks again and again, under load, while the server starts and while it collects.
// After each cut every acknowledged write must hold (I1) and the store be whole (I2 to I6). It does not drop what the
// disk was given and not told to flush.
func TestPowerCut(t *testing.T) {
	seed := figures.Seed(t)
	cuts := figures.Size(t, 6)
	p := newPowerCut(t, rand.New(rand.NewPCG(seed, 2)))
	var acked, done, collecting int
	var allLost, allCorrupt []string
	for cut := range cuts {
		if cut%cutsPerStore == 0 {
			acked += p.renew(t, seed+uint64(cut), cut/cutsPerStore%2 == 1)
		}
		switch cut % 6 { // the first falls into the making of the store
		case 0:
			p.whileStarting(t)
		case 3:
			if !p.whileCollecting(t) {
				collecting++
			}
		default:
			p.workload.Interrupt(t, p.server, time.Duration(20+p.rng.IntN(280))*time.Millisecond, func(end *process.End) { p.end(t, end) })
		}
		lost, corrupt := p.verify(t)
		done++
		allLost, allCorrupt = append(allLost, lost...), append(allCorrupt, corrupt...)
		if t.Failed() || len(allLost)+len(allCorrupt) > 0 {
			t.Errorf("after cut %d:\n%s", done, strings.Join(slices.Concat(allLost, allCorrupt), "\n"))
			break
		}
	}
	acked += p.workload.Acked()
	figures.Row{ID: "T-2", Test: "the power of the disks (ext4) cut under load, while starting and while collecting, then every acknowledged write is read back", Seed: seed, Figures: []figures.Figure{
		figures.Count("power cuts", done), figures.Count("of them while collecting", collecting), figures.Count("acknowledged writes", acked),
		figures.Count("lost", len(allLost)), figures.Count("corrupt", len(allCorrupt)),
	}}.Report(t)
}

func newPowerCut(t *testing.T, rng *rand.Rand) *powerCut {
	t.Helper()
	// What the workload pushes is kept; what collections remove is pushed apart.
	config := filepath.Join(process.Dir(t), "cubby.yaml")
	if err := os.WriteFile(config, []byte(`keep: [{repositories: "collected/**", untagged: 0s, used: 0s, cache: 0s}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(process.Dir(t), "disk")
	p := &powerCut{rng: rng, dir: filepath.Join(top, "store"), data: newDisk(t, top), serve: process.Program(t, "--config", config)}
	p.blobs = newDisk(t, filepath.Join(p.dir, "blobs"))
	return p
}

// renew begins with empty disks, and returns how many writes the workload until now had acknowledged.
func (p *powerCut) renew(t *testing.T, seed uint64, apart bool) (acked int) {
	t.Helper()
	if p.workload != nil {
		p.server.Kill()
		acked = p.workload.Acked()
	}
	p.blobs.unmount(t)
	p.data.format(t)
	if apart {
		p.blobs.format(t)
		p.restore(t) // so that the directory of the mount survives the first cut
	}
	p.workload, p.server = process.NewWorkload(seed), nil
	return acked
}

// cut cuts the power of both disks. One after the other: whatever is on the second has been promised nothing meanwhile.
func (p *powerCut) cut() error {
	if p.blobs.mounted {
		if err := p.blobs.cut(); err != nil {
			return err
		}
	}
	return p.data.cut()
}

// restore gives the power back.
func (p *powerCut) restore(t *testing.T) {
	t.Helper()
	apart := p.blobs.mounted
	p.blobs.unmount(t)
	p.data.unmount(t)
	p.data.mount(t)
	if apart {
		p.blobs.mount(t)
	}
}

// end cuts the power and then ends the server.
func (p *powerCut) end(t *testing.T, end *process.End) {
	t.Helper()
	if err := end.Cut(p.cut); err != nil {
		t.Error(err)
	}
	p.linger()
}

// linger gives the server some time to answer what it must not, and ends it.
func (p *powerCut) linger() {
	time.Sleep(time.Duration(p.rng.IntN(30)) * time.Millisecond) // nothing is waited for: this is when the server goes
	p.server.Kill()
}

func (p *powerCut) whileStarting(t *testing.T) {
	t.Helper()
	if p.server != nil {
		p.server.Kill()
	}
	p.server = p.serve.Launch(t, p.dir)
	time.Sleep(time.Duration(p.rng.IntN(80)) * time.Millisecond) // nothing is waited for: this is when the power goes
	p.end(t, new(process.End))
}

// whileCollecting cuts the power beside a collection that has manifests to remove, while clients write. It returns
// whether the collection was too fast.
func (p *powerCut) whileCollecting(t *testing.T) (missed bool) {
	t.Helper()
	c := process.NewClient(p.server.URL)
	defer c.Close()
	shared := process.RandomBlob(1, 1000)
	c.PushBlob(t, "collected/app", shared)
	for i := range 20 {
		layer := process.RandomBlob(byte(2+i), 1+p.rng.IntN(1000))
		c.PushImage(t, "collected/app", []string{"latest"}, shared, layer)
	}
	before := time.Duration(p.rng.IntN(1+p.rng.IntN(300))) * time.Millisecond
	p.workload.Interrupt(t, p.server, time.Duration(p.rng.IntN(100))*time.Millisecond, func(end *process.End) {
		admin := process.NewAdminClient(p.dir)
		defer admin.Close()
		ended := make(chan struct{})
		go func() {
			_, _ = admin.Do(http.MethodPost, "/gc", nil) // it fails when the power goes
			close(ended)
		}()
		select {
		case <-ended:
			missed = true
		case <-time.After(before):
		}
		p.end(t, end)
		<-ended
	})
	return missed
}

// verify restores the power and returns what acknowledged writes do not hold, and what is not as it must be.
func (p *powerCut) verify(t *testing.T) (lost, corrupt []string) {
	t.Helper()
	p.restore(t)
	p.server = p.serve.Start(t, p.dir)
	for _, problem := range process.Program(t).Problems(t, p.dir) {
		corrupt = append(corrupt, "check: "+problem)
	}
	lost, wrong, err := p.workload.Verify(p.server.URL)
	if err != nil {
		t.Fatal(fmt.Errorf("read back: %w", err))
	}
	return lost, append(corrupt, wrong...)
}
