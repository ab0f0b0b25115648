package web

import (
	"net/http"
	"slices"
	"time"

	"cubby/store"
)

// manifestsData is what the list of all manifests of a repository shows.
type manifestsData struct {
	Head  repositoryHead
	Rows  []manifestItem
	Show  string
	Shows []choice
	Next  string
	After string
	Total int64
	Link  func(key, value string) string
}

type choice struct{ Value, Text string }

// manifestShows are what the list can be narrowed to.
var manifestShows = []choice{
	{"all", "All"}, {"tagged", "With a tag"}, {"parts", "Parts of an index"}, {"referrers", "Attached to another"}, {"untagged", "Held by nothing"},
}

type manifestItem struct {
	store.ManifestRow
	Goes time.Time // when it may be collected; zero when something holds it
}

func (h *Handler) manifestsPage(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	head, err := h.repositoryHead(r, "manifests")
	if err != nil {
		return err
	}
	d := manifestsData{Head: head, Show: q.Get("show"), Shows: manifestShows, After: q.Get("after"), Link: linker(r.URL)}
	if !slices.ContainsFunc(manifestShows, func(c choice) bool { return c.Value == d.Show }) {
		d.Show = "all"
	}
	if d.Show != "all" { // which looks at all of them
		done, err := h.costly(r)
		if err != nil {
			return err
		}
		defer done()
	}
	rows, next, total, err := h.Store.ManifestPage(r.Context(), r.route.name, store.ManifestsShow(d.Show), d.After, pageRows)
	if err != nil {
		return err
	}
	d.Next, d.Total = next, total
	for _, row := range rows {
		item := manifestItem{ManifestRow: row}
		if row.TagCount == 0 && len(row.Parents) == 0 && !row.SubjectHere {
			item.Goes = h.goes(r, row.UntaggedSince, row.LastUsed)
		}
		d.Rows = append(d.Rows, item)
	}
	v := h.view(w, r, "Manifests · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "manifests", v)
}

// goes returns when a manifest that nothing holds may be collected, as far as the keep times say.
func (h *Handler) goes(r *request, untagged, used time.Time) time.Time {
	afterTag, afterUse := h.Keep(r.route.name)
	until := untagged.Add(afterTag)
	if !used.IsZero() && used.Unix() > 0 && used.Add(afterUse).After(until) {
		until = used.Add(afterUse)
	}
	return until
}
