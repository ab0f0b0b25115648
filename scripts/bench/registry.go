package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A comparison says what registryCommand measures.
type comparison struct {
	program string // of Cubby
	dir     string
	servers []string
	only    string // workloads whose names contain it
	time    time.Duration
	rounds  int
	profile string // a directory for a profile of each workload of Cubby; "": none
}

// compare drives the servers with each workload in turn, so that all of them see the machine in the same mood, and prints
// the best round of each.
func compare(ctx context.Context, w io.Writer, c comparison) (err error) {
	dir, err := os.MkdirTemp(c.dir, "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // nginx's workers are somebody else
		return err
	}
	var selected []workload
	for _, work := range workloads {
		if strings.Contains(work.name, c.only) {
			selected = append(selected, work)
		}
	}
	if len(selected) == 0 {
		return fmt.Errorf("no workload has %q in its name", c.only)
	}
	large := slices.ContainsFunc(selected, func(w workload) bool { return w.needs == needsLarge })
	limits := floor{dir: dir, each: c.time}
	limits.hashSome()
	var loads []*load
	var idle []int64
	var content largeBlob
	if large {
		if content, err = newLarge(); err != nil {
			return err
		}
	}
	for i, word := range c.servers {
		contender, err := contenderOf(word, c.program)
		if err != nil {
			return err
		}
		server, err := contender.start(ctx, filepath.Join(dir, fmt.Sprint("data", i)))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.stop()) }()
		memory, err := server.memory()
		if err != nil {
			return err
		}
		idle = append(idle, memory)
		l := newLoad(server, content)
		if err := l.prepare(ctx, selected); err != nil {
			return err
		}
		loads = append(loads, l)
	}
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	columns := append([]string{"workload, clients"}, c.servers...)
	row(out, columns...)
	row(out, slices.Repeat([]string{"---"}, len(columns))...)
	for _, work := range selected {
		cells, err := rounds(ctx, loads, work, c, &limits)
		if err != nil {
			return err
		}
		row(out, append([]string{fmt.Sprintf("%s, %d", work.name, work.clients)}, cells...)...)
	}
	if err := sizes(ctx, out, loads, idle, c); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return limits.print(w)
}

// buildProgram builds the program as it is shipped, below dir.
func buildProgram(ctx context.Context, dir string) (path string, err error) {
	path = filepath.Join(dir, "cubby")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "cubby")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// row writes a line of a Markdown table.
func row(w io.Writer, cells ...string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, "\t| "))
}

// rounds returns a cell for each server: its best round, and how its rate compares with the first server's.
func rounds(ctx context.Context, loads []*load, work workload, c comparison, limits *floor) (cells []string, err error) {
	best := make([]sample, len(loads))
	for range c.rounds {
		if err := limits.round(ctx, work.limit); err != nil {
			return nil, err
		}
		for i, l := range loads {
			if l.server.static && !work.static {
				continue
			}
			profiled := l.profile(ctx, c, work)
			s, err := l.run(ctx, work, c.time)
			if err = errors.Join(err, profiled()); err != nil {
				return nil, fmt.Errorf("%s: %w", work.name, err)
			}
			if s.rate > best[i].rate {
				best[i] = s
			}
		}
	}
	for i, s := range best {
		if s.rate == 0 {
			cells = append(cells, "")
			continue
		}
		cost := fmt.Sprintf("%d µs", s.cost.Microseconds())
		if work.unit == "MB" {
			cost = fmt.Sprintf("%.2f s/GB", s.cost.Seconds()*1000)
		}
		cell := fmt.Sprintf("%.0f %s/s, CPU %s, p50 %s, p99 %s", s.rate, work.unit, cost, round(s.p50), round(s.p99))
		if i > 0 {
			cell += fmt.Sprintf("; ratio %.2f", best[0].rate/s.rate)
		}
		cells = append(cells, cell)
	}
	return cells, nil
}

// sizes measures what is not done over and over: memory and disk.
func sizes(ctx context.Context, out io.Writer, loads []*load, idle []int64, c comparison) error {
	resident, disk := make([]string, len(loads)), make([]string, len(loads))
	for i, l := range loads {
		memory, err := l.server.memory()
		if err != nil {
			return err
		}
		resident[i] = fmt.Sprintf("%d MiB idle; %d MiB after the above", idle[i]>>20, memory>>20)
		if l.server.static || c.only != "" {
			continue
		}
		before, err := diskUsed(l.server.dir)
		if err != nil {
			return err
		}
		if err := l.pushTiny(ctx); err != nil {
			return err
		}
		after, err := diskUsed(l.server.dir)
		if err != nil {
			return err
		}
		disk[i] = fmt.Sprintf("%.0f MB", float64(after-before)/1e6)
	}
	row(out, append([]string{"resident memory"}, resident...)...)
	if c.only == "" {
		row(out, append([]string{"disk for 2 000 tiny images"}, disk...)...)
	}
	return nil
}

// profile begins to write a profile of Cubby while it has a workload, if that is asked for. The returned function waits for its
// end.
func (l *load) profile(ctx context.Context, c comparison, work workload) (wait func() error) {
	if c.profile == "" || l.server.name != "cubby" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- l.writeProfile(ctx, filepath.Join(c.profile, strings.ReplaceAll(work.name, " ", "-")+".pprof"), int(max(c.time, time.Second).Seconds()))
	}()
	return func() error { return <-done }
}

func (l *load) writeProfile(ctx context.Context, path string, seconds int) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.server.dir, "cubby.sock"))
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://cubby/debug/pprof/profile?seconds=%d", seconds), nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile: %s: %s", answer.Status, raw)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o644)
}
