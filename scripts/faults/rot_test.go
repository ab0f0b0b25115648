//go:build faults

package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// Sizes of the store whose bits rot.
const (
	rotImages = 40
	rotBatch  = 20 // damages before each check
)

// A rotting store is one whose files change behind its back.
type rotting struct {
	rng    *rand.Rand
	dir    string
	c      *process.Client
	blobs  []process.Content // pairs of one size side by side
	images []process.Content // tagged v0, v1, …
}

// newRotting makes what is pushed. Blobs come in pairs of one size, so that one can stand in another's place unseen.
func newRotting(rng *rand.Rand, pairs int) *rotting {
	r := &rotting{rng: rng}
	for i := range pairs {
		size := 1 + rng.IntN(1<<20)
		if i%2 == 0 {
			size = 1 + rng.IntN(1<<(1+rng.IntN(12)))
		}
		for range 2 {
			raw := make([]byte, size)
			for at := range raw {
				raw[at] = byte(rng.Uint32())
			}
			raw = append(fmt.Appendf(nil, "%d ", len(r.blobs)+100), raw...) // all differ
			r.blobs = append(r.blobs, process.Blob(raw))
		}
	}
	for range rotImages {
		r.images = append(r.images, process.Image(r.pick(), r.pick(), r.pick()))
	}
	return r
}

func (r *rotting) pick() process.Content { return r.blobs[r.rng.IntN(len(r.blobs))] }

// push pushes everything to a registry at an address, to the repository team/app.
func (r *rotting) push(t *testing.T, url string) {
	t.Helper()
	r.c = process.NewClient(url)
	for _, blob := range r.blobs {
		r.pushBlob(t, blob)
	}
	for i, image := range r.images {
		r.c.Want(t, http.StatusCreated, http.MethodPut, fmt.Sprintf("/v2/team/app/manifests/v%d", i), image.Raw, "Content-Type", image.MediaType)
	}
}

// pushBlob pushes without asking, in the way that every registry knows.
func (r *rotting) pushBlob(t *testing.T, blob process.Content) {
	t.Helper()
	r.c.Want(t, http.StatusCreated, http.MethodPut, process.WithDigest(r.c.StartUpload(t, "team/app"), blob.Digest), blob.Raw)
}

// pushAsClients pushes as stock clients do: only what HEAD does not find.
func (r *rotting) pushAsClients(t *testing.T, blob process.Content) {
	t.Helper()
	answer, err := r.c.Do(http.MethodHead, "/v2/team/app/blobs/"+blob.Digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != http.StatusOK {
		r.pushBlob(t, blob)
	}
}

// whole returns whether a blob is served as it was pushed, and whether other bytes are served under its digest.
func (r *rotting) whole(t *testing.T, blob process.Content) (whole, wrong bool) {
	t.Helper()
	answer, err := r.c.Do(http.MethodGet, "/v2/team/app/blobs/"+blob.Digest, nil)
	if err != nil {
		return false, false // cut before its end, which a client sees
	}
	whole = answer.Status == http.StatusOK && bytes.Equal(answer.Body, blob.Raw)
	return whole, answer.Status == http.StatusOK && !whole
}

func (r *rotting) isWhole(t *testing.T, blob process.Content) bool {
	t.Helper()
	whole, _ := r.whole(t, blob)
	return whole
}

// damages are what happens to a file, by name. A page is 4 KiB.
var damages = map[string]func(r *rotting, i int) []byte{
	"bit flipped": func(r *rotting, i int) []byte {
		raw := bytes.Clone(r.blobs[i].Raw)
		raw[r.rng.IntN(len(raw))] ^= 1 << r.rng.IntN(8)
		return raw
	},
	"page zeroed": func(r *rotting, i int) []byte {
		raw := bytes.Clone(r.blobs[i].Raw)
		start := r.rng.IntN(len(raw)) &^ 4095
		clear(raw[start:min(start+4096, len(raw))])
		return raw
	},
	"cut off": func(r *rotting, i int) []byte { return r.blobs[i].Raw[:r.rng.IntN(len(r.blobs[i].Raw))] },
	"appended": func(r *rotting, i int) []byte {
		return append(bytes.Clone(r.blobs[i].Raw), make([]byte, 1+r.rng.IntN(5000))...)
	},
	"other blob":           func(r *rotting, i int) []byte { return r.blobs[(i+2)%len(r.blobs)].Raw },
	"other blob, as large": func(r *rotting, i int) []byte { return r.blobs[i^1].Raw },
}

// damage writes what some blobs' files have from now on, in place, and returns how each was damaged.
func (r *rotting) damage(t *testing.T, n int, path func(process.Content) string) map[int]string {
	t.Helper()
	names := slices.Sorted(maps.Keys(damages))
	how := make(map[int]string)
	for _, i := range r.rng.Perm(len(r.blobs))[:n] {
		how[i] = names[r.rng.IntN(len(names))]
		if err := os.WriteFile(path(r.blobs[i]), damages[how[i]](r, i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return how
}

// A rotCount is what became of damaged blobs.
type rotCount struct {
	damaged, found, falseAlarms, wrong, afterCheck, healed, absent int

	read     int64 // bytes that checks compared with their digests
	checking time.Duration
}

// TestBitRot damages files of blobs beside a serving registry. Check must find and name every one, what it found must not
// be served any more, and a push must heal it, also by a client that first asks whether the blob is there (T-9).
func TestBitRot(t *testing.T) {
	seed := figures.Seed(t)
	r := newRotting(rand.New(rand.NewPCG(seed, 9)), 150)
	r.dir = process.Dir(t)
	s := process.Program(t).Start(t, r.dir)
	r.push(t, s.URL)
	var n rotCount
	for left := figures.Size(t, 40); left > 0 && !t.Failed(); left -= rotBatch {
		r.round(t, min(left, rotBatch), &n)
	}
	if n.found != n.damaged || n.falseAlarms > 0 || n.afterCheck > 0 || n.healed != n.damaged {
		t.Errorf("%+v", n)
	}
	figures.Row{ID: "T-9", Test: "files of blobs damaged beside a serving registry: bits flipped, pages zeroed, cut off, grown, swapped; then check --deep, and everything pushed again by clients that first ask what is there", Seed: seed, Figures: []figures.Figure{
		figures.Count("damaged", n.damaged), figures.Count("found and named", n.found), figures.Count("false alarms", n.falseAlarms),
		figures.Count("answered as absent before the check", n.absent), figures.Count("served with other bytes before the check", n.wrong),
		figures.Count("after it", n.afterCheck), figures.Count("healed by a push", n.healed),
		{Name: "MB/s checked", Value: fmt.Sprint(int(float64(n.read) / 1e6 / n.checking.Seconds()))},
	}}.Report(t)
}

// round damages some blobs and follows them until they are whole again.
func (r *rotting) round(t *testing.T, n int, sum *rotCount) {
	t.Helper()
	how := r.damage(t, n, func(blob process.Content) string { return blob.File(r.dir) })
	for i := range how {
		sum.damaged++
		switch whole, wrong := r.whole(t, r.blobs[i]); {
		case whole:
			t.Errorf("%s: %s is served whole", how[i], r.blobs[i].Digest)
		case wrong:
			sum.wrong++
			if how[i] == "cut off" || how[i] == "appended" {
				t.Errorf("%s: %s has another size and is served", how[i], r.blobs[i].Digest)
			}
		default:
			sum.absent++
		}
	}
	started := time.Now()
	problems := process.Program(t).Problems(t, r.dir)
	sum.checking += time.Since(started)
	for _, blob := range r.blobs {
		sum.read += int64(len(blob.Raw))
	}
	for i := range how {
		if slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, r.blobs[i].Digest) }) {
			sum.found++
		} else {
			t.Errorf("%s: %s is not found", how[i], r.blobs[i].Digest)
		}
	}
	sum.falseAlarms += max(0, len(problems)-len(how))
	for i := range how {
		if _, wrong := r.whole(t, r.blobs[i]); wrong {
			sum.afterCheck++
		}
		if r.pushAsClients(t, r.blobs[i]); r.isWhole(t, r.blobs[i]) {
			sum.healed++
		}
	}
}
