package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// storageData is what the page of the storage shows. Totals are the administrator's: they count what others cannot see.
type storageData struct {
	All          bool // the viewer may see totals
	Use          store.DiskUse
	Free, Volume int64
	Repositories []store.RepositorySummary // the largest
	More         int                       // of them
	Blobs        []store.BigBlob
	Kinds        []share
	Ages         []share
	Uploads      int
	UploadBytes  int64
	Growth       *growth
	Last         *store.CollectionRun
	Next         time.Time
	Kept         keptView
}

// A share is a part of what is stored.
type share struct {
	Text  string
	Count int64
	Bytes int64
}

const (
	largestRepositories = 20
	largestBlobs        = 10
	growthDays          = 60
)

func (h *Handler) storagePage(w http.ResponseWriter, r *request) error {
	d := storageData{All: r.who.IsAdmin()}
	done, err := h.costly(r)
	if err != nil {
		return err
	}
	defer done()
	all, err := h.Store.Summaries(r.Context(), time.Time{})
	if err != nil {
		return err
	}
	all, among := r.visible(all)
	bytes := func(s store.RepositorySummary) int64 { return s.Stored }
	if r.who.SeesAll() {
		bytes = func(s store.RepositorySummary) int64 { return s.OnlyHere }
	}
	d.Kinds, d.Ages = sharesByKind(all, bytes), h.sharesByAge(all, bytes)
	slices.SortStableFunc(all, func(a, b store.RepositorySummary) int { return cmp.Compare(b.Stored, a.Stored) })
	d.Repositories = all[:min(len(all), largestRepositories)]
	d.More = len(all) - len(d.Repositories)
	if d.Blobs, err = h.Store.BiggestBlobs(r.Context(), among, largestBlobs); err != nil {
		return err
	}
	if d.All {
		if err := h.totals(r, &d); err != nil {
			return err
		}
	}
	v := h.view(w, r, "Storage", &d)
	v.Section = "storage"
	return h.render(w, r, http.StatusOK, "storage", v)
}

// totals costs three statements.
func (h *Handler) totals(r *request, d *storageData) (err error) {
	if d.Use, err = h.Store.DiskUse(r.Context()); err != nil {
		return err
	}
	d.Free, d.Volume = h.Store.Space()
	d.Kept = h.whatIsKept(r.Context())
	d.Uploads, d.UploadBytes = h.Store.OpenUploads()
	days, err := h.Store.DiskDays(r.Context(), growthDays)
	if err != nil {
		return err
	}
	d.Growth = newGrowth(days)
	runs, err := h.Store.Collections(r.Context(), 1)
	if err != nil || len(runs) == 0 {
		return err
	}
	d.Last = &runs[0]
	if h.Every > 0 {
		d.Next = runs[0].StartedAt.Add(h.Every)
	}
	return nil
}

// Percent returns how much of the volume something takes, in percent.
func (d *storageData) Percent(n int64) string { return percent(n, d.Volume) }

func sharesByKind(all []store.RepositorySummary, bytes func(store.RepositorySummary) int64) (shares []share) {
	at := make(map[oci.ArtifactKind]int)
	for _, s := range all {
		kind := s.Kind
		if kind == "" {
			kind = "untagged"
		}
		i, ok := at[kind]
		if !ok {
			i, at[kind] = len(shares), len(shares)
			shares = append(shares, share{Text: string(kind)})
		}
		shares[i].Count++
		shares[i].Bytes += bytes(s)
	}
	slices.SortStableFunc(shares, func(a, b share) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return shares
}

// sharesByAge sorts repositories by when somebody last asked for anything in them.
func (h *Handler) sharesByAge(all []store.RepositorySummary, bytes func(store.RepositorySummary) int64) []share {
	const day = 24 * time.Hour
	limits := []struct {
		within time.Duration
		text   string
	}{{day, "within a day"}, {7 * day, "within a week"}, {30 * day, "within a month"}, {365 * day, "within a year"}, {0, "longer ago, or never"}}
	shares := make([]share, len(limits))
	for i, l := range limits {
		shares[i].Text = l.text
	}
	for _, s := range all {
		i := slices.IndexFunc(limits, func(l struct {
			within time.Duration
			text   string
		}) bool {
			return l.within == 0 || h.now().Sub(s.LastUsed) <= l.within
		})
		shares[i].Count++
		shares[i].Bytes += bytes(s)
	}
	return shares
}

// A growth is a chart of what was stored at the end of each day, in a box of 600 to 120.
type growth struct {
	Bars  []growthBar
	Days  []store.DiskDay
	Label string
}

type growthBar struct {
	X, Y, Width, Height int
	Title               string
}

func newGrowth(days []store.DiskDay) *growth {
	if len(days) < 2 {
		return nil
	}
	high := int64(1)
	for _, d := range days {
		high = max(high, d.Bytes)
	}
	g := &growth{Days: days, Label: "Bytes on disk on each of " + strconv.Itoa(len(days)) + " days, from " + size(days[0].Bytes) + " to " + size(days[len(days)-1].Bytes)}
	const width, height = 600, 120
	step := width / growthDays
	for i, d := range days {
		tall := max(1, int(d.Bytes*height/high))
		g.Bars = append(g.Bars, growthBar{i * step, height - tall, step - 2, tall, d.Day.Format("2 Jan 2006") + ": " + size(d.Bytes)})
	}
	return g
}
