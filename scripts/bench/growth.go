package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

const (
	grownName = "grown/app"
	indexType = "application/vnd.oci.image.index.v1+json"
	startName = "start until it answers"
)

// A curve is how something that is measured changes with the size of the store.
type curve struct {
	name   string
	points []time.Duration // one for each size
}

// growth makes stores with as many tags of one repository, manifests in it, and other repositories, as each size says, and
// measures what requests cost the server's processor, and the start. It prints a table and writes a plot.
func growth(ctx context.Context, w io.Writer, program, dir, plot string, sizes []int, each time.Duration) error {
	dir, err := os.MkdirTemp(dir, "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var curves []curve
	for _, n := range sizes {
		points, err := measureGrown(ctx, program, filepath.Join(dir, fmt.Sprint(n)), n, each)
		if err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
		for i, p := range points {
			if len(curves) == i {
				curves = append(curves, curve{name: p.name})
			}
			curves[i].points = append(curves[i].points, p.points...)
		}
	}
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	head, rule := []string{"server's CPU for"}, []string{"---"}
	for _, n := range sizes {
		head, rule = append(head, fmt.Sprint(n)), append(rule, "---")
	}
	row(out, head...)
	row(out, rule...)
	for _, c := range curves {
		cells := []string{c.name}
		for _, p := range c.points {
			cells = append(cells, p.Round(max(p/1000, time.Microsecond)).String())
		}
		row(out, cells...)
	}
	if err := out.Flush(); err != nil || plot == "" {
		return err
	}
	return os.WriteFile(plot, plotOf(curves, sizes), 0o644)
}

// measureGrown fills a store of a size and returns a point of each curve.
func measureGrown(ctx context.Context, program, dir string, n int, each time.Duration) (points []curve, err error) {
	if err := fillGrown(ctx, dir, n); err != nil {
		return nil, err
	}
	c, err := contenderOf("cubby", program)
	if err != nil {
		return nil, err
	}
	// The first start finds the files in no cache, and the write-ahead log of the filling.
	server, err := c.start(ctx, dir)
	if err == nil {
		err = server.stop()
	}
	if err != nil {
		return nil, err
	}
	if server, err = c.start(ctx, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	points = append(points, curve{startName, []time.Duration{server.took}})
	l := newLoad(server, largeBlob{})
	client, err := dial(server.addr)
	if err != nil {
		return nil, err
	}
	defer client.close()
	if err := l.push(client, "bench/pull", l.image, "latest"); err != nil {
		return nil, err
	}
	count := uint64(n)
	for _, work := range []workload{
		{"a manifest by tag", "requests", 4, false, "", "", func(l *load, c *conn, i uint64) (int64, error) {
			a, err := want(c, 200, "GET", "/v2/"+grownName+"/manifests/"+grownTag(i*7919%count), "Accept: "+indexType+"\r\n", nil)
			return a.bytes, err
		}},
		{"100 tags", "requests", 4, false, "", "", func(l *load, c *conn, i uint64) (int64, error) {
			a, err := want(c, 200, "GET", "/v2/"+grownName+"/tags/list?n=100&last="+grownTag(i*7919%count), "", nil)
			return a.bytes, err
		}},
		{"100 repositories", "requests", 4, false, "", "", func(l *load, c *conn, i uint64) (int64, error) {
			a, err := want(c, 200, "GET", fmt.Sprintf("/v2/_catalog?n=100&last=many/n%06d", i*7919%count), "", nil)
			return a.bytes, err
		}},
		{"HEAD of a blob", "requests", 4, false, "", "", (*load).headBlob},
		{"push of a manifest", "requests", 4, false, "", "", func(l *load, c *conn, i uint64) (int64, error) {
			raw := newBlob(grownManifest(count + i))
			_, err := want(c, 201, "PUT", "/v2/"+grownName+"/manifests/new"+fmt.Sprint(i), "Content-Type: "+indexType+"\r\n", raw.raw)
			return 0, err
		}},
	} {
		s, err := l.run(ctx, work, each)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", work.name, err)
		}
		points = append(points, curve{work.name, []time.Duration{s.cost}})
	}
	return points, nil
}

func grownTag(i uint64) string { return fmt.Sprintf("v%06d", i) }

func grownManifest(i uint64) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d"}}`, indexType, i)
}

// fillGrown puts n manifests with a tag each into one repository, and one into n others each.
func fillGrown(ctx context.Context, dir string, n int) (err error) {
	st, err := store.Open(ctx, store.Options{Dir: dir, Role: store.RoleServe, Create: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	grown, err := oci.ParseName(grownName)
	if err != nil {
		return err
	}
	var next atomic.Uint64
	var group sync.WaitGroup
	errs := make([]error, 64) // as many commit together
	for i := range errs {
		group.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				k := next.Add(1) - 1
				if k >= uint64(n) {
					return
				}
				raw := string(grownManifest(k))
				other, err := oci.ParseName(fmt.Sprintf("many/n%06d", k))
				if err == nil {
					err = putTagged(ctx, st, grown, indexType, raw, []string{grownTag(k)}, 0)
				}
				if err == nil {
					err = putTagged(ctx, st, other, indexType, raw, []string{"latest"}, 0)
				}
				errs[i] = err
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// The plot's size and margins.
const (
	plotWidth, plotHeight = 720, 360
	plotLeft, plotRight   = 70, 190
	plotTop, plotBottom   = 20, 40
)

var plotColours = []string{"#6b7280", "#2563eb", "#059669", "#d97706", "#9333ea", "#dc2626"}

// plotOf draws curves with logarithmic axes, readable on light and dark.
func plotOf(curves []curve, sizes []int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#6b7280">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title>Processor time of the server for one request, by the number of tags, manifests and repositories</title>\n")
	lowest, highest := time.Microsecond, 10*time.Microsecond
	for _, c := range curves {
		for _, p := range c.points {
			for p > highest {
				highest *= 10
			}
		}
	}
	x := func(i int) float64 {
		return plotLeft + float64(plotWidth-plotLeft-plotRight)*float64(i)/float64(max(len(sizes)-1, 1))
	}
	y := func(d time.Duration) float64 {
		return plotTop + float64(plotHeight-plotTop-plotBottom)*(1-logRatio(max(d, lowest), lowest)/logRatio(highest, lowest))
	}
	for d := lowest; d <= highest; d *= 10 {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#9ca3af" stroke-opacity=".4"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y(d), plotWidth-plotRight, y(d), plotLeft-8, y(d)+4, d)
	}
	for i, n := range sizes {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(i), plotHeight-plotBottom+20, n)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">tags and manifests of a repository, and other repositories</text>`+"\n",
		plotLeft+(plotWidth-plotLeft-plotRight)/2, plotHeight-4)
	labels := make([]float64, 0, len(curves))
	for k, c := range curves {
		colour := plotColours[k%len(plotColours)]
		var line []string
		for i, p := range c.points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x(i), y(p)))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(i), y(p), colour)
		}
		at := labelPlace(labels, y(c.points[len(c.points)-1])+4)
		labels = append(labels, at)
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%d" y="%.1f" fill="%s">%s</text>`+"\n",
			strings.Join(line, " "), colour, plotWidth-plotRight+10, at, colour, c.name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func logRatio(a, b time.Duration) float64 { return math.Log(float64(a) / float64(b)) }

// labelPlace moves a label down until it covers none of the others.
func labelPlace(taken []float64, at float64) float64 {
	for moved := true; moved; {
		moved = false
		for _, other := range taken {
			if at > other-14 && at < other+14 {
				at, moved = other+14, true
			}
		}
	}
	return at
}
