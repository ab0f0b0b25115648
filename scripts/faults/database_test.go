//go:build faults

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// TestDatabase asks whether SQLite is used as it wants to be: another process may open and close the database, nothing
// else in the process opens it, readers that are stuck do not hold its log, and requests that are cancelled leave
// nothing behind. CUBBY_SIZE is how many times the server is killed; there are 1000 cancelled requests for each.
func TestDatabase(t *testing.T) {
	process.NeedTool(t, "sqlite3", "strace")
	size, seed := figures.Size(t, 2), figures.Seed(t)
	var seen []figures.Figure
	for _, part := range []struct {
		name string
		run  func(t *testing.T, size int, seed uint64) []figures.Figure
	}{
		{"opened by others", testOpenedByOthers}, {"opened by SQLite alone", testOpenedBySQLite},
		{"stuck readers", testStuckReaders}, {"cancelled requests", testCancelled},
	} {
		t.Run(part.name, func(t *testing.T) { seen = append(seen, part.run(t, size, seed)...) })
	}
	figures.Row{ID: "T-17", Test: "the database is opened and closed by others under load, read by clients that are stuck and asked by clients that go away", Seed: seed, Figures: seen}.Report(t)
}

// opensPerKill is how many times another process opens and closes the database before each kill.
const opensPerKill = 50

// testOpenedByOthers: SQLite's locks are what keeps another process that closes the database from taking the log of
// the server for its own and removing it, which shows only after a crash.
func testOpenedByOthers(t *testing.T, size int, seed uint64) []figures.Figure {
	dir, workload, opens := process.Dir(t), process.NewWorkload(seed), 0
	var lost []string
	s := process.Program(t).Start(t, dir)
	for kill := range size {
		var end process.End
		done := make(chan error, 1)
		go func() { done <- workload.Run(s.URL, &end) }()
		for range opensPerKill {
			readDatabase(t, dir)
			opens++
		}
		end.Kill(s)
		if err := <-done; err != nil {
			t.Fatalf("kill %d: %v", kill+1, err)
		}
		s = process.Program(t).Start(t, dir)
		found, corrupt, err := workload.Verify(s.URL)
		if err != nil {
			t.Fatalf("kill %d: %v", kill+1, err)
		}
		lost = append(append(append(lost, found...), corrupt...), process.Program(t).Problems(t, dir)...)
		if len(lost) > 0 {
			t.Errorf("after kill %d:\n%s", kill+1, strings.Join(lost, "\n"))
			break
		}
	}
	return []figures.Figure{figures.Count("openings by others", opens), figures.Count("acknowledged writes", workload.Acked()), figures.Count("lost", len(lost))}
}

// readDatabase opens the database in another process, reads and closes it. As the last one to close, by what it sees of
// the locks, it would remove the log.
func readDatabase(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sqlite3", "-cmd", ".timeout 20000", filepath.Join(dir, "cubby.db"), "SELECT count(*) FROM tags")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// testOpenedBySQLite reads from the system calls that every open of the database is SQLite's: it names files with their
// whole path and O_NOFOLLOW, which neither package os nor os.Root does. Closing any other descriptor of them would drop
// the locks that the process has.
func testOpenedBySQLite(t *testing.T, _ int, _ uint64) []figures.Figure {
	dir, beside := process.Dir(t), process.Dir(t)
	trace := filepath.Join(beside, "trace")
	traced := process.Program(t)
	traced.Wrap = process.Strace(trace, "open,openat,openat2,creat")
	s := traced.Start(t, dir)
	c := process.NewClient(s.URL)
	sample := c.PushSample(t)
	c.WantSample(t, sample)
	for _, page := range []string{"/", "/-/storage", "/team/app:v1", "/-/healthz"} {
		c.Want(t, http.StatusOK, http.MethodGet, page, nil)
	}
	for _, args := range [][]string{{"gc", "--now"}, {"check", "--deep"}, {"backup", filepath.Join(beside, "copy")}} {
		process.Program(t, append(args, "--data", dir)...).Want(t, 0)
	}
	s.Stop(t)
	opens, wrong := 0, 0
	for _, call := range process.ReadTrace(t, trace) {
		if !strings.HasPrefix(call.Path(), filepath.Join(dir, "cubby.db")) {
			continue
		}
		opens++
		if !strings.Contains(call.Args, `"`+dir) || !strings.Contains(call.Args, "O_NOFOLLOW") {
			wrong++
			t.Errorf("not by SQLite: %v", call)
		}
	}
	if opens == 0 {
		t.Error("nobody opened the database")
	}
	return []figures.Figure{figures.Count("openings traced", opens), figures.Count("not by SQLite", wrong)}
}

const (
	stuckReaders = 100
	stuckTime    = 5 * time.Second // less than the server waits for a reader
	walMax       = 16 << 20        // it is copied into the database from 4 MiB on
)

// testStuckReaders: clients that stop reading an answer hold no snapshot, so the log does not grow while others write.
func testStuckReaders(t *testing.T, _ int, seed uint64) []figures.Figure {
	dir := process.Dir(t)
	s := process.Program(t).Start(t, dir)
	paths := pushLarge(t, process.NewClient(s.URL), 5000)
	readers := make([]*stuckReader, stuckReaders)
	for i := range readers {
		var err error
		if readers[i], err = startStuckReader(t.Context(), s.URL, paths[i%len(paths)]); err != nil {
			t.Fatal(err)
		}
	}
	var end process.End
	done := make(chan error, 1)
	workload := process.NewWorkload(seed)
	go func() { done <- workload.Run(s.URL, &end) }()
	largest := int64(0)
	until := time.Now().Add(stuckTime)
	process.Poll(t, 2*stuckTime, "the end of writing", func() bool {
		if info, err := os.Stat(filepath.Join(dir, "cubby.db-wal")); err == nil {
			largest = max(largest, info.Size())
		}
		return time.Now().After(until)
	})
	if largest == 0 || largest > walMax {
		t.Errorf("the log of the database was %d bytes, want at most %d", largest, walMax)
	}
	whole := 0
	for _, r := range readers {
		if err := r.finish(); err != nil {
			t.Error(err)
			continue
		}
		whole++
	}
	end.Kill(s)
	if err := <-done; err != nil {
		t.Error(err)
	}
	return []figures.Figure{
		figures.Count("stuck readers", whole), figures.Count("writes beside them", workload.Acked()),
		{Name: "MiB of log at most", Value: fmt.Sprintf("%.1f", float64(largest)/(1<<20))},
	}
}

// pushLarge pushes what is larger than the buffers of a connection, and returns where it is: a blob, a list of tags.
func pushLarge(t *testing.T, c *process.Client, tags int) []string {
	t.Helper()
	layer := process.RandomBlob(1, 6<<20)
	image := c.PushImage(t, "team/large", []string{"latest"}, process.RandomBlob(2, 100), layer)
	const most = 100 // of one request
	for first := 0; first < tags; first += most {
		var some []string
		for i := range most {
			some = append(some, fmt.Sprintf("%0128d", first+i))
		}
		c.PushManifest(t, "team/large", image, some...)
	}
	return []string{"/v2/team/large/blobs/" + layer.Digest, "/v2/team/large/tags/list"}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const (
	cancelledPerSize = 1000
	cancelWorkers    = 16
	cancelAfter      = 6 * time.Millisecond // at most
	cancelBatches    = 8
	// What may be more in the second half of the batches than in the first: idle connections to the database, and
	// memory that was not given back yet. A heap goes up and down by half, so it is the least of each half.
	filesMore      = 16
	memoryMore     = 32 << 20
	goroutinesLeft = 100
)

// testCancelled sends requests whose client goes away at any moment, and asks again and again what the server holds.
func testCancelled(t *testing.T, size int, seed uint64) []figures.Figure {
	s := process.Program(t).Start(t, process.Dir(t))
	c := process.NewClient(s.URL)
	paths := append(pushLarge(t, c, 1000), "/", "/team/large", "/v2/_catalog", "/v2/team/large/manifests/latest", "/team/large:latest")
	var files, memory []int
	for batch := range cancelBatches {
		cancelMany(t, s.URL, paths, size*cancelledPerSize/cancelBatches, seed+uint64(batch))
		files, memory = append(files, settled(t, s)), append(memory, int(s.Memory(t, "VmRSS")))
	}
	more := func(held []int) int {
		return max(0, slices.Min(held[cancelBatches/2:])-slices.Min(held[:cancelBatches/2]))
	}
	if more(files) > filesMore || more(memory) > memoryMore {
		t.Errorf("%d cancelled requests: the server came to hold %v descriptors and %v bytes of memory", size*cancelledPerSize, files, memory)
	}
	c.Want(t, http.StatusOK, http.MethodGet, "/v2/team/large/manifests/latest", nil)
	goroutines := s.Goroutines(t)
	if goroutines == 0 || goroutines > goroutinesLeft {
		t.Errorf("%d goroutines are left, want at most %d", goroutines, goroutinesLeft)
	}
	return []figures.Figure{
		figures.Count("cancelled requests", size*cancelledPerSize), figures.Count("descriptors more in their second half", more(files)),
		{Name: "MiB of memory more", Value: fmt.Sprintf("%.1f", float64(more(memory))/(1<<20))},
		figures.Count("goroutines left", goroutines),
	}
}

// settled returns how many descriptors the server holds once all connections are gone.
func settled(t *testing.T, s *process.Server) (files int) {
	t.Helper()
	process.Poll(t, 20*time.Second, "connections to go", func() bool {
		var sockets int
		files, sockets = s.Files(t)
		return sockets <= 4 // listener, admin socket, this test's own
	})
	return files
}

func cancelMany(t *testing.T, url string, paths []string, n int, seed uint64) {
	t.Helper()
	body := process.RandomBlob(9, 200<<10)
	var running sync.WaitGroup
	for worker := range cancelWorkers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(worker)))
			c := process.NewClient(url)
			defer c.Close()
			for range n / cancelWorkers {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.Int64N(int64(cancelAfter))))
				method, path, sent := http.MethodGet, paths[random.IntN(len(paths))], io.Reader(nil)
				if random.IntN(4) == 0 {
					method, path = http.MethodPost, "/v2/team/large/blobs/uploads/?digest="+body.Digest
					sent = strings.NewReader(string(body.Raw))
				}
				// How far it comes is what differs; that it fails is meant.
				if response, err := c.HTTP.Do(must(http.NewRequestWithContext(ctx, method, url+path, sent))); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				cancel()
			}
		})
	}
	running.Wait()
}
