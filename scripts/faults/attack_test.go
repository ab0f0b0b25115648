//go:build faults

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

const (
	// 256 MiB, and what the heap grows by while busy cores keep the collector waiting.
	attackMemory = 320 << 20
	// A pull under attack may take long where two cores are shared by the server, the client and the attackers; it may
	// not hang.
	attackSlowest = 15 * time.Second
)

// TestAttacks lets clients be slow, greedy or hostile while another pulls a small image: its pulls must go on, the
// server's memory must stay bounded, and afterwards the server must hold what it held before. CUBBY_SIZE is how many
// seconds each attack lasts.
func TestAttacks(t *testing.T) {
	lasting := time.Duration(figures.Size(t, 2)) * time.Second
	var worst struct {
		peak        int64
		ratio       float64
		name        string
		failed, all int
		p99         time.Duration
	}
	v := newVictim(t)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			v.s.ResetPeak(t)
			calm := whilePulling(t, lasting/2, v.pull, func(context.Context) error { return nil })
			files, _ := v.s.Files(t)
			p := whilePulling(t, lasting, v.pull, func(ctx context.Context) error { return a.run(ctx, v) })
			peak := v.s.Memory(t, "VmHWM")
			t.Logf("p99 %v before, %v during %d pulls, %d failed, peak %d MiB", calm.p99(), p.p99(), len(p.times), len(p.failed), peak>>20)
			worst.all, worst.failed, worst.peak = worst.all+len(p.times), worst.failed+len(p.failed), max(worst.peak, peak)
			worst.p99 = max(worst.p99, p.p99())
			if ratio := float64(p.p99()) / float64(max(calm.p99(), 1)); ratio > worst.ratio {
				worst.ratio, worst.name = ratio, a.name
			}
			for _, err := range append(calm.failed, p.failed...)[:min(3, len(calm.failed)+len(p.failed))] {
				t.Error(err)
			}
			if len(p.times) == 0 || p.p99() > attackSlowest {
				t.Errorf("%d pulls, p99 %v", len(p.times), p.p99())
			}
			if peak > attackMemory {
				t.Errorf("the server took %d MiB", peak>>20)
			}
			var after int
			process.Poll(t, 45*time.Second, "the descriptors of an attack to be closed", func() bool {
				after, _ = v.s.Files(t)
				return after <= files+filesMore
			})
		})
	}
	figures.Row{ID: "T-15", Test: "slow, greedy and hostile clients while another pulls a small image on new connections", Figures: []figures.Figure{
		figures.Count("attacks", len(attacks)), figures.Count(fmt.Sprintf("connections at most, of which the server keeps %d", serverConnections), slowConnections),
		figures.Count("pulls beside them", worst.all), figures.Count("failed", worst.failed), figures.Time("p99 at worst", worst.p99),
		{Name: "times that without an attack (" + worst.name + ")", Value: fmt.Sprintf("%.1f", worst.ratio)},
		{Name: "MiB of memory at most", Value: fmt.Sprint(worst.peak >> 20)},
	}}.Report(t)
}

// An attack goes on until its context is done. An error is one of the test, or an answer that must not be.
type attack struct {
	name string
	run  func(ctx context.Context, v *victim) error
}

var attacks = []attack{
	{"slow headers", slowHeaders}, {"slow bodies", slowBodies}, {"slow readers", slowReaders},
	{"huge pages", hugePages}, {"large manifests", largeManifests}, {"deep manifests", deepManifests},
	{"open uploads", openUploads}, {"wrong passwords", wrongPasswords}, {"resets", resets}, {"bombs", bombs},
}

// A victim is a server with content. Whoever reads it may be a stranger, whoever writes has logged in.
type victim struct {
	s     *process.Server
	large []string // paths of what is larger than the buffers of a connection
	image process.Content
}

const victimName = "team/small"

// login is what clients send that have a right to.
var login = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:correct horse"))}

func newVictim(t *testing.T) *victim {
	t.Helper()
	dir, beside := process.Dir(t), process.Dir(t)
	v, cert := new(victim), process.NewCertificate(t, "127.0.0.1")
	files := map[string][]byte{"cert": cert.Cert, "key": cert.Key}
	for name, raw := range files {
		if err := os.WriteFile(filepath.Join(beside, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v.s = process.Program(t, "--anonymous", "pull", "--tls-cert", filepath.Join(beside, "cert"), "--tls-key", filepath.Join(beside, "key")).Start(t, dir)
	c := process.NewClient(v.s.URL)
	v.large = append(pushLarge(t, c, 5000), pushLargeManifest(t, c))
	pushBombs(t, c)
	v.image = c.PushImage(t, victimName, []string{"v1"}, process.RandomBlob(11, 1000), process.RandomBlob(12, 100<<10))
	add := process.Program(t, "user", "add", "alice", "--password-stdin", "--data", dir)
	add.Stdin = "correct horse\n"
	add.Want(t, 0)
	return v
}

func (v *victim) pull(ctx context.Context) pulled {
	return pullUntil(ctx, v.s.URL, victimName, "v1", v.image, login...)
}
