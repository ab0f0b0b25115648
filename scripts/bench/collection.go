package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"cubby/gc"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A clock runs with the machine's, ahead of it by an offset that is set by hand.
type clock struct{ ahead atomic.Int64 } // nanoseconds

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

const day = 24 * time.Hour

// collection fills a store with images of three small blobs each, half of them without a tag, and prints what planning
// and sweeping cost, in two collections: of the manifests, and of their blobs after their lease. Beside them one client
// pushes images; the 99th percentile of what a push takes is compared with that before and after.
func collection(ctx context.Context, w io.Writer, dir string, manifests int) error {
	dir, err := os.MkdirTemp(dir, "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := &clock{}
	st, err := store.Open(ctx, store.Options{Dir: dir, Role: store.RoleServe, Create: true, Now: c.Now})
	if err != nil {
		return err
	}
	defer st.Close()
	began := time.Now()
	if err := fill(ctx, st, manifests); err != nil {
		return err
	}
	fmt.Fprintf(w, "filled with %d manifests over %d blobs in %s; one of two is garbage\n\n", manifests, 3*manifests, round(time.Since(began)))

	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "COLLECTION\tPLAN\tHEAP OF PLAN\tSWEEP\tMANIFESTS\tBLOBS\tPUSHES\tP50\tP99\tP99 QUIET\tRATIO")
	for _, step := range []struct {
		name  string
		after time.Duration
	}{{"manifests", 40 * day}, {"their blobs", 25 * time.Hour}} {
		c.ahead.Add(int64(step.after))
		if err := collectBeside(ctx, out, st, c, step.name); err != nil {
			return err
		}
	}
	return out.Flush()
}

func collectBeside(ctx context.Context, out io.Writer, st *store.Store, c *clock, name string) error {
	pushes := 0
	// beside returns the sorted times of the pushes while f runs.
	beside := func(f func() error) ([]time.Duration, error) {
		stop, done := make(chan struct{}), make(chan error, 1)
		var times []time.Duration
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				pushes++
				began := time.Now()
				if err := pushImage(ctx, st, "live", fmt.Sprint(name, pushes), true); err != nil {
					done <- err
					return
				}
				times = append(times, time.Since(began))
			}
		}()
		err := f()
		close(stop)
		err = errors.Join(err, <-done)
		slices.Sort(times)
		if err == nil && len(times) == 0 {
			err = errors.New("not one push came to an end meanwhile")
		}
		return times, err
	}
	pause := func() error {
		select {
		case <-time.After(5 * time.Second): // it is the time in which pushes are counted
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	before, err := beside(pause)
	if err != nil {
		return err
	}
	var plan *gc.Plan
	var result gc.Result
	var planned, swept time.Duration
	var heap int64
	busy, err := beside(func() error {
		heapBefore := heapInUse()
		began := time.Now()
		var err error
		if plan, err = gc.NewPlan(ctx, st, gc.Options{Now: c.Now()}); err != nil {
			return err
		}
		planned = time.Since(began)
		heap = heapInUse() - heapBefore
		began = time.Now()
		result, err = plan.Execute(ctx, st, nil)
		swept = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	after, err := beside(pause)
	if err != nil {
		return err
	}
	quiet := slices.Sorted(slices.Values(append(before, after...)))
	p99 := func(times []time.Duration) time.Duration { return times[len(times)*99/100] }
	_, err = fmt.Fprintf(out, "%s\t%s\t%.1f MiB\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%.1f\n", name, round(planned), float64(heap)/(1<<20), round(swept), result.Manifests, result.Blobs,
		len(busy), round(busy[len(busy)/2]), round(p99(busy)), round(p99(quiet)), float64(p99(busy))/float64(p99(quiet)))
	return err
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// heapInUse returns the bytes of what is reachable.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill puts images into a hundred repositories; every second one has a tag.
func fill(ctx context.Context, st *store.Store, manifests int) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(manifests) && failed.Load() == nil; i = next.Add(1) {
				if err := pushImage(ctx, st, fmt.Sprint("r", i%100), fmt.Sprint(i), i%2 == 0); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// pushImage pushes a config and two layers, and an image of them.
func pushImage(ctx context.Context, st *store.Store, repo, content string, tagged bool) error {
	name, err := oci.ParseName(repo)
	if err != nil {
		return err
	}
	var descriptors []string
	for _, kind := range []string{"config", "layer", "base"} {
		body := kind + " " + repo + " " + content
		dgst := oci.SumDigest(digest.SHA256, []byte(body))
		id, err := st.StartUpload(name, "bench", digest.SHA256)
		if err == nil {
			err = st.FinishUpload(ctx, name, "bench", id, 0, strings.NewReader(body), dgst)
		}
		if err != nil {
			return err
		}
		descriptors = append(descriptors, fmt.Sprintf(`{"mediaType":"c/c","digest":%q,"size":%d}`, dgst, len(body)))
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	raw := []byte(`{"schemaVersion":2,"config":` + descriptors[0] + `,"layers":[` + strings.Join(descriptors[1:], ",") + `]}`)
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		return err
	}
	p := store.ManifestPut{Name: name, Digest: oci.SumDigest(digest.SHA256, raw), Manifest: m, Sparse: store.SparseIndex}
	if tagged {
		tag, err := oci.ParseTag("t" + strings.ReplaceAll(content, " ", "-"))
		if err != nil {
			return err
		}
		p.Tags = []oci.Tag{tag}
	}
	_, err = st.PutManifest(ctx, p)
	return err
}
