//go:build faults

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// dbPage is the size of a page of the database, in bytes.
const dbPage = 4096

// pageDamages are what happens to the database's file, by turns.
var pageDamages = []struct {
	name   string
	damage func(rng *rand.Rand, raw []byte)
}{
	{"bit flipped", func(rng *rand.Rand, raw []byte) { raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8) }},
	{"page zeroed", func(rng *rand.Rand, raw []byte) { clear(page(rng, raw)) }},
	{"other page", func(rng *rand.Rand, raw []byte) { copy(page(rng, raw), page(rng, raw)) }},
	{"half a page zeroed", func(rng *rand.Rand, raw []byte) { clear(page(rng, raw)[dbPage/2:]) }},
}

func page(rng *rand.Rand, raw []byte) []byte {
	at := dbPage * rng.IntN(len(raw)/dbPage)
	return raw[at : at+dbPage]
}

// A servedAll is what a server answers to every question about what it holds, by path.
type servedAll map[string]process.Answer

// ask asks what the paths say. An answer that is cut has no status.
func ask(c *process.Client, paths []string) servedAll {
	all := make(servedAll)
	for _, path := range paths {
		method := http.MethodGet
		if strings.Contains(path, "/blobs/") { // its bytes are in no database
			method = http.MethodHead
		}
		answer, err := c.Do(method, path, nil)
		if err != nil {
			answer.Status = 0
		}
		all[path] = answer
	}
	return all
}

// A pageRotCount is what became of answers after damage to a page.
type pageRotCount struct{ refused, differing, corrupt []string }

// compare tells answers from those of before: refused now, other ones, and manifests under a digest that is not theirs.
func (was servedAll) compare(now servedAll) (n pageRotCount) {
	for path, a := range was {
		b := now[path]
		same := a.Status == b.Status && bytes.Equal(a.Body, b.Body)
		for _, h := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest"} {
			same = same && a.Header.Get(h) == b.Header.Get(h)
		}
		told := fmt.Sprintf("%s: %d %v, was %d %v", path, b.Status, b.Header, a.Status, a.Header)
		switch {
		case same:
		case b.Status != http.StatusOK:
			n.refused = append(n.refused, told)
		case strings.Contains(path, "/manifests/") && process.Digest(b.Body) != b.Header.Get("Docker-Content-Digest"):
			n.corrupt = append(n.corrupt, told)
		default:
			n.differing = append(n.differing, told)
		}
	}
	return n
}

// fillForRot pushes what is asked for later, and returns the paths.
func fillForRot(t *testing.T, c *process.Client) (paths []string) {
	t.Helper()
	s := c.PushSample(t)
	for _, blob := range s.Blobs {
		paths = append(paths, "/v2/team/app/blobs/"+blob.Digest)
	}
	for _, m := range append(s.Images[:], s.Index) {
		paths = append(paths, "/v2/team/app/manifests/"+m.Digest)
	}
	paths = append(paths, "/v2/_catalog", "/v2/team/app/tags/list", "/v2/team/other/blobs/"+s.Other.Digest)
	for i := range byte(40) {
		name := fmt.Sprintf("team/r%d", i%4)
		tag := fmt.Sprintf("v%d", i)
		m := c.PushImage(t, name, []string{tag}, process.RandomBlob(10+i, 500), process.RandomBlob(10+i/2, 700))
		paths = append(paths, "/v2/"+name+"/manifests/"+tag, "/v2/"+name+"/manifests/"+m.Digest, "/v2/"+name+"/tags/list")
		for _, dgst := range m.Names {
			paths = append(paths, "/v2/"+name+"/blobs/"+dgst)
		}
	}
	return paths
}

// TestPageRot damages pages of the database of a stopped registry. Check, or a start that is refused, must find whatever
// changes an answer, and no manifest may be served under a digest that is not its own (T-9).
func TestPageRot(t *testing.T) {
	seed := figures.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 4))
	dir := process.Dir(t)
	serve := process.Program(t, "--gc-every", "0")
	s := serve.Start(t, dir)
	c := process.NewClient(s.URL)
	paths := fillForRot(t, c)
	was := ask(c, paths)
	c.Close()
	s.Stop(t) // the log is in the file then
	file := filepath.Join(dir, "cubby.db")
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found, noStart, harmless, refused, differing, corrupt int
	n := figures.Size(t, 20)
	for i := range n {
		how := pageDamages[i%len(pageDamages)]
		raw := bytes.Clone(sound)
		how.damage(rng, raw)
		replaceDatabase(t, file, raw)
		r := process.Program(t, "check", "--json", "--data", dir).Run(t)
		replaceDatabase(t, file, raw)
		now, started := serveRotten(t, serve, dir, paths)
		if strings.Contains(r.Stderr, "goroutine ") {
			t.Errorf("%s: check fell over: %s", how.name, r.Stderr)
		}
		if r.Code != 0 {
			found++
		}
		if !started {
			noStart++
			continue
		}
		seen := was.compare(now)
		if len(seen.corrupt) > 0 {
			corrupt++
			t.Errorf("%s: %s", how.name, seen.corrupt[0])
		}
		if len(seen.refused) > 0 {
			refused++
		}
		if len(seen.differing) > 0 {
			differing++
		}
		if all := slices.Concat(seen.refused, seen.differing); r.Code == 0 && len(all) > 0 {
			t.Errorf("%s is not found, and changes %s", how.name, all[0])
		} else if r.Code == 0 {
			harmless++
		}
	}
	figures.Row{ID: "T-9d", Test: "pages of the database damaged while the server is stopped: bits flipped, zeroed, half zeroed, swapped; then check, and all answers compared with those of before", Seed: seed, Figures: []figures.Figure{
		figures.Count("damaged", n), figures.Count("found by check", found), figures.Count("not found, and every answer as before", harmless),
		figures.Count("starts refused", noStart), figures.Count("with a refusal", refused),
		figures.Count("with another answer, like a shorter list", differing), figures.Count("with bytes of another digest", corrupt),
	}}.Report(t)
}

// replaceDatabase puts a file in the place of the database and its log.
func replaceDatabase(t *testing.T, file string, raw []byte) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(file + suffix); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveRotten starts a server and returns its answers, and whether it started.
func serveRotten(t *testing.T, serve process.Command, dir string, paths []string) (now servedAll, started bool) {
	t.Helper()
	s := serve.Launch(t, dir)
	defer s.Kill()
	if !s.Serves(t) {
		return nil, false
	}
	c := process.NewClient(s.URL)
	defer c.Close()
	now = ask(c, paths)
	for line := range strings.Lines(s.Log()) {
		if strings.Contains(line, "panic") {
			t.Errorf("the server fell over: %s", line)
		}
	}
	return now, true
}
