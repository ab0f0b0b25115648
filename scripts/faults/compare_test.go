//go:build faults

package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// TestPushesPowerCut cuts the power of two registries' disk under the same pushes, ours and Debian's docker-registry, and
// counts what each then lacks of what it acknowledged. Only ours must lack nothing.
func TestPushesPowerCut(t *testing.T) {
	seed := figures.Seed(t)
	cuts := figures.Size(t, 4)
	row := figures.Row{ID: "T-2r", Test: "the same cuts under pushes only, of cubby and of Debian's docker-registry", Seed: seed,
		Figures: []figures.Figure{figures.Count("power cuts each", cuts)}}
	for _, registry := range []struct {
		name  string
		start func(*testing.T, string) *process.Server
	}{
		{"cubby", process.Program(t).Start}, {"docker-registry", process.NewDistribution(t)},
	} {
		name := registry.name
		acked, lost, wrong := cutPushes(t, seed, cuts, registry.start)
		if name == "cubby" && len(lost)+len(wrong) > 0 {
			t.Error(strings.Join(append(lost, wrong...), "\n"))
		}
		t.Logf("%s, of what it lost: %q, %q", name, lost[:min(3, len(lost))], wrong[:min(3, len(wrong))])
		row.Figures = append(row.Figures, figures.Count(name+": acknowledged writes", acked),
			figures.Count("of them lost", len(lost)), figures.Count("served with other bytes", len(wrong)))
	}
	row.Report(t)
}

// cutPushes returns how many writes were acknowledged, which of them were lost, and what is served with other bytes.
func cutPushes(t *testing.T, seed uint64, cuts int, start func(*testing.T, string) *process.Server) (acked int, lost, wrong []string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	d := newDisk(t, filepath.Join(process.Dir(t), "disk"))
	dir := filepath.Join(d.dir, "store")
	var s *process.Server
	var pushes *process.Pushes
	for i := range cuts {
		if i%cutsPerStore == 0 {
			if s != nil {
				acked += pushes.Acked()
				s.Kill()
			}
			d.format(t)
			pushes, s = process.NewPushes(seed+uint64(i)), start(t, dir)
		}
		pushes.Interrupt(t, s, time.Duration(20+rng.IntN(280))*time.Millisecond, func(end *process.End) {
			if err := end.Cut(d.cut); err != nil {
				t.Error(err)
			}
			s.Kill()
		})
		d.unmount(t)
		d.mount(t)
		s = start(t, dir)
		l, w := pushes.Verify(s.URL)
		lost, wrong = append(lost, l...), append(wrong, w...)
	}
	s.Kill()
	return acked + pushes.Acked(), lost, wrong
}

// TestBitRotElsewhere damages files of Debian's docker-registry as TestBitRot does, and counts what it serves and what a
// push heals. It has no check.
func TestBitRotElsewhere(t *testing.T) {
	seed := figures.Seed(t)
	r := newRotting(rand.New(rand.NewPCG(seed, 9)), 40)
	r.dir = process.Dir(t)
	r.push(t, process.NewDistribution(t)(t, r.dir).URL)
	file := func(blob process.Content) string {
		encoded := strings.TrimPrefix(blob.Digest, "sha256:")
		return filepath.Join(r.dir, "docker/registry/v2/blobs/sha256", encoded[:2], encoded, "data")
	}
	var damaged, unharmed, served, healed, healedUnasked int
	for left := figures.Size(t, 40); left > 0; left -= rotBatch {
		for i := range r.damage(t, min(left, rotBatch), file) {
			damaged++
			blob := r.blobs[i]
			switch whole, wrong := r.whole(t, blob); {
			case whole:
				unharmed++
			default:
				if wrong {
					served++
				}
				if r.pushAsClients(t, blob); r.isWhole(t, blob) {
					healed++
				}
				if r.pushBlob(t, blob); r.isWhole(t, blob) {
					healedUnasked++
				}
			}
			if err := os.WriteFile(file(blob), blob.Raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	figures.Row{ID: "T-9r", Test: "the same damage to blobs of Debian's docker-registry, which has no check", Seed: seed, Figures: []figures.Figure{
		figures.Count("damaged", damaged), figures.Count("served as they were all the same", unharmed), figures.Count("served with other bytes", served),
		figures.Count("healed by clients that first ask what is there", healed), figures.Count("by a push that does not ask", healedUnasked),
	}}.Report(t)
}
