package web

import (
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// searchData is what the page of a search shows.
type searchData struct {
	Query        string
	Repositories []store.RepositorySummary
	Tags         []store.TagHit
	Digests      []store.DigestHit
	Labels       []labelItem
	More         map[string]bool // kinds of which there are more
	Looked       bool
}

// searchRows is how many hits of each kind are shown, and queryMax how many bytes of a query are looked at.
const (
	searchRows = 20
	queryMax   = 300
)

var digestPrefix = regexp.MustCompile(`^(sha256:|sha512:)?[0-9a-f]{6,128}$`)

func (h *Handler) searchPage(w http.ResponseWriter, r *request) error {
	q := strings.TrimSpace(r.URL.Query().Get("q"))
	d := searchData{Query: q, More: make(map[string]bool)}
	if q != "" && len(q) <= queryMax {
		done, err := h.costly(r)
		if err != nil {
			return err
		}
		defer done()
		if err := h.search(r, h.withoutHost(r, q), &d); err != nil {
			return err
		}
		d.Looked = true
	}
	title := "Search"
	if q != "" {
		title = q + " · Search"
	}
	v := h.view(w, r, title, &d)
	v.Search = q
	return h.render(w, r, http.StatusOK, "search", v)
}

// visible returns those of all repositories that the viewer sees, and the same for a search.
func (r *request) visible(all []store.RepositorySummary) (seen []store.RepositorySummary, among store.Among) {
	seen = slices.DeleteFunc(slices.Clone(all), func(s store.RepositorySummary) bool { return !r.who.Sees(s.Name) })
	if len(seen) == len(all) {
		return seen, nil
	}
	among = store.Among{}
	for _, s := range seen {
		among = append(among, s.Name)
	}
	return seen, among
}

// withoutHost drops the registry from a pasted reference.
func (h *Handler) withoutHost(r *request, q string) string {
	for _, prefix := range []string{"https://", "http://", "oci://", "docker://"} {
		q = strings.TrimPrefix(q, prefix)
	}
	return strings.TrimPrefix(q, h.host(r)+"/")
}

func (h *Handler) search(r *request, q string, d *searchData) (err error) {
	ctx := r.Context()
	all, err := h.Store.Summaries(ctx, time.Time{})
	if err != nil {
		return err
	}
	visible, among := r.visible(all)
	d.Repositories = matchingNames(visible, q)
	if len(d.Repositories) > searchRows {
		d.Repositories, d.More["repositories"] = d.Repositories[:searchRows], true
	}
	if lower := strings.ToLower(q); digestPrefix.MatchString(lower) {
		if d.Digests, d.More["digests"], err = h.Store.FindDigests(ctx, lower, among, searchRows); err != nil {
			return err
		}
	}
	if d.Tags, d.More["tags"], err = h.Store.FindTags(ctx, tagPart(q), among, searchRows); err != nil {
		return err
	}
	labels, more, err := h.Store.FindLabels(ctx, q, among, labelHits)
	if err != nil {
		return err
	}
	d.Labels, d.More["labels"] = groupLabels(labels), more
	if len(d.Labels) > searchRows {
		d.Labels, d.More["labels"] = d.Labels[:searchRows], true
	}
	return nil
}

// A labelItem is a label that manifests of a repository have, with one of them.
type labelItem struct {
	store.LabelHit
	Others int
}

// labelHits is how many manifests are looked at for their labels: those of a repository are shown as one.
const labelHits = 10 * searchRows

// groupLabels puts the hits of the same label in the same repository together, named by one with a tag if there is any.
func groupLabels(hits []store.LabelHit) (items []labelItem) {
	type key struct {
		name       oci.Name
		key, value string
	}
	at := make(map[key]int)
	for _, hit := range hits {
		k := key{hit.Repository, hit.Key, hit.Value}
		i, ok := at[k]
		switch {
		case !ok:
			at[k] = len(items)
			items = append(items, labelItem{LabelHit: hit})
			continue
		case items[i].Tag == "" && hit.Tag != "":
			items[i].LabelHit = hit
		}
		items[i].Others++
	}
	return items
}

// tagPart returns what stands behind the repository in a reference, else all of it.
func tagPart(q string) string {
	if i := strings.LastIndexByte(q, ':'); i > strings.LastIndexByte(q, '/') && i >= 0 && !strings.Contains(q, "@") {
		return q[i+1:]
	}
	return q
}

// matchingNames returns the repositories whose name has the words of a query, the closest first.
func matchingNames(all []store.RepositorySummary, q string) []store.RepositorySummary {
	name := strings.ToLower(q)
	if i := strings.IndexAny(name, ":@"); i >= 0 {
		name = name[:i]
	}
	words := strings.Fields(name)
	if len(words) == 0 {
		return nil
	}
	found := slices.DeleteFunc(slices.Clone(all), func(s store.RepositorySummary) bool {
		return slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(s.Name.String(), word) })
	})
	rank := func(s store.RepositorySummary) int {
		switch full := s.Name.String(); {
		case full == name:
			return 0
		case path.Base(full) == name:
			return 1
		case strings.HasPrefix(full, name), strings.HasPrefix(path.Base(full), name):
			return 2
		}
		return 3
	}
	slices.SortStableFunc(found, func(a, b store.RepositorySummary) int { return rank(a) - rank(b) })
	return found
}
