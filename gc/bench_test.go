package gc

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// BenchmarkCollection fills a store with manifests of three blobs each, half of them garbage, and prints what planning
// and sweeping cost, and what a push takes beside it. CUBBY_MANIFESTS says how many (the published figure is of 100 000):
//
//	CUBBY_MANIFESTS=100000 go test ./gc -run NONE -bench Collection -benchtime 1x -timeout 60m
func BenchmarkCollection(b *testing.B) {
	manifests := 2000
	if v := os.Getenv("CUBBY_MANIFESTS"); v != "" {
		var err error
		if manifests, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		collectOnce(b, manifests)
	}
}

func collectOnce(b *testing.B, manifests int) {
	b.StopTimer() // the metrics are its own
	defer b.StartTimer()
	clock := &fastClock{}
	clock.seconds.Store(1_700_000_000)
	st, err := store.Open(b.Context(), store.Options{Dir: b.TempDir(), Role: store.RoleServe, Create: true, Now: clock.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	fill(b, st, manifests)
	clock.seconds.Add(int64(40 * dayTime / time.Second))
	quiet := pushTimes(b, st, "quiet", func() { time.Sleep(2 * time.Second) })

	collect := func() (plan, sweep time.Duration, r Result) {
		began := time.Now()
		p, err := NewPlan(b.Context(), st, Options{Now: clock.Now()})
		if err != nil {
			b.Fatal(err)
		}
		plan = time.Since(began)
		if r, err = p.Execute(b.Context(), st, nil); err != nil {
			b.Fatal(err)
		}
		return plan, time.Since(began) - plan, r
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var plan1, plan2, sweep1, sweep2 time.Duration
	var r1, r2 Result
	busy := pushTimes(b, st, "busy", func() {
		plan1, sweep1, r1 = collect()
		clock.seconds.Add(int64(25 * time.Hour / time.Second))
		plan2, sweep2, r2 = collect()
	})
	runtime.ReadMemStats(&after)
	b.ReportMetric(plan1.Seconds()*1000, "ms/plan-manifests")
	b.ReportMetric(sweep1.Seconds(), "s/sweep-manifests")
	b.ReportMetric(plan2.Seconds()*1000, "ms/plan-blobs")
	b.ReportMetric(sweep2.Seconds(), "s/sweep-blobs")
	b.ReportMetric(float64(int64(after.HeapSys)-int64(before.HeapSys))/(1<<20), "MiB/heap-growth")
	b.ReportMetric(quiet.Seconds()*1000, "ms/push-p99-quiet")
	b.ReportMetric(busy.Seconds()*1000, "ms/push-p99-busy")
	b.Logf("%d manifests: first %+v, second %+v", manifests, r1, r2)
}

// fill puts manifests of a config and two layers each; every second one has a tag.
func fill(b *testing.B, st *store.Store, manifests int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(manifests); i = next.Add(1) {
				if err := putImage(b, st, fmt.Sprint("r", i%100), fmt.Sprint(i), i%2 == 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func putImage(b *testing.B, st *store.Store, repo, content string, tagged bool) error {
	c := &client{ctx: b.Context(), st: st}
	var blobs []digest.Digest
	for _, kind := range []string{"config", "layer", "base"} {
		body := kind + " " + repo + " " + content
		id, err := st.StartUpload(name(repo), "p", digest.SHA256)
		if err == nil {
			err = st.FinishUpload(c.ctx, name(repo), "p", id, 0, strings.NewReader(body), sum([]byte(body)))
		}
		if err != nil {
			return err
		}
		blobs = append(blobs, sum([]byte(body)))
	}
	raw := []byte(imageBody(blobs[0], "", blobs[1:]...))
	m, err := oci.ParseManifest(typeImage, raw)
	if err != nil {
		return err
	}
	p := store.ManifestPut{Name: name(repo), Digest: sum(raw), Manifest: m, Sparse: store.SparseIndex}
	if tagged {
		p.Tags = []oci.Tag{tag("t" + content)}
	}
	_, err = st.PutManifest(c.ctx, p)
	return err
}

// pushTimes pushes images while f runs and returns the 99th percentile of what one took.
func pushTimes(b *testing.B, st *store.Store, label string, f func()) time.Duration {
	stop := make(chan struct{})
	var times []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			if err := putImage(b, st, "live", fmt.Sprint(label, i), true); err != nil {
				b.Error(err)
				return
			}
			times = append(times, time.Since(began))
		}
	})
	f()
	close(stop)
	wg.Wait()
	slices.Sort(times)
	if len(times) == 0 {
		return 0
	}
	return times[len(times)*99/100]
}
