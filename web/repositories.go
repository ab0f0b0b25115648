package web

import (
	"cmp"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// pageRows is how many rows a list shows at once.
const pageRows = 50

// repositoriesData is what the list of repositories shows.
type repositoriesData struct {
	Namespace  string // with its last slash, or ""
	Parents    []namePart
	Namespaces []namespaceItem // one step below
	Query      string
	Kind       string
	Kinds      []oci.ArtifactKind // those that there are
	Sort       string
	Rows       []repositoryItem
	Total      int // that match
	All        int // in the namespace
	Empty      bool
	CanPush    bool
	Page       int
	Pages      int
	Link       func(key, value string) string // this page with another parameter
}

type namespaceItem struct {
	Path, Text string
	Count      int
}

type repositoryItem struct {
	store.RepositorySummary
	Spark *spark
}

// sorts are the orders of the list, by the name in the URL.
var sorts = map[string]func(a, b store.RepositorySummary) int{
	"name":   func(a, b store.RepositorySummary) int { return cmp.Compare(a.Name.String(), b.Name.String()) },
	"pushed": func(a, b store.RepositorySummary) int { return a.PushedAt.Compare(b.PushedAt) },
	"size":   func(a, b store.RepositorySummary) int { return cmp.Compare(a.Stored, b.Stored) },
	"only":   func(a, b store.RepositorySummary) int { return cmp.Compare(a.OnlyHere, b.OnlyHere) },
	"tags":   func(a, b store.RepositorySummary) int { return cmp.Compare(a.Tags, b.Tags) },
	"pulls":  func(a, b store.RepositorySummary) int { return cmp.Compare(a.Pulls, b.Pulls) },
}

func (h *Handler) repositoriesPage(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	d := repositoriesData{Namespace: r.route.namespace, Query: q.Get("q"), Kind: q.Get("kind"), Sort: q.Get("sort"), Link: linker(r.URL)}
	if strings.TrimPrefix(d.Sort, "-") == "only" && !r.who.SeesAll() {
		d.Sort = ""
	}
	since := time.Time{}
	if strings.TrimPrefix(d.Sort, "-") == "pulls" {
		since = h.now30() // only then for all of them
	}
	all, err := h.Store.Summaries(r.Context(), since)
	if err != nil {
		return err
	}
	visible := slices.DeleteFunc(all, func(s store.RepositorySummary) bool {
		return !strings.HasPrefix(s.Name.String(), d.Namespace) || !r.who.Sees(s.Name)
	})
	if d.Namespace != "" && len(visible) == 0 {
		return &store.NameUnknownError{Name: r.route.name}
	}
	d.All, d.Empty = len(visible), len(visible) == 0
	d.Kinds, d.Namespaces = kinds(visible), namespaces(visible, d.Namespace)
	if d.Namespace != "" {
		d.Parents = nameParts(r.route.name)
	}
	matching := d.filter(visible)
	d.sort(matching)
	d.Total = len(matching)
	d.Pages = max(1, (len(matching)+pageRows-1)/pageRows)
	d.Page = clampPage(q.Get("page"), d.Pages)
	matching = matching[(d.Page-1)*pageRows : min(len(matching), d.Page*pageRows)]
	if d.Rows, err = h.withPulls(r, matching); err != nil {
		return err
	}
	title := "Repositories"
	if d.Namespace != "" {
		title = d.Namespace
	}
	v := h.view(w, r, title, d)
	v.Section = "repositories"
	name := "repositories"
	if d.Empty {
		name = "empty"
	}
	return h.render(w, r, http.StatusOK, name, v)
}

func (d *repositoriesData) filter(all []store.RepositorySummary) []store.RepositorySummary {
	text := strings.ToLower(strings.TrimSpace(d.Query))
	pattern := strings.ContainsAny(text, "*?")
	return slices.DeleteFunc(slices.Clone(all), func(s store.RepositorySummary) bool {
		if d.Kind != "" && string(s.Kind) != d.Kind {
			return true
		}
		if pattern {
			// * stands for slashes too: who types team* means all below it.
			ok, err := path.Match(strings.ReplaceAll(text, "/", "\x00"), strings.ReplaceAll(s.Name.String(), "/", "\x00"))
			return err != nil || !ok
		}
		return !strings.Contains(s.Name.String(), text)
	})
}

func (d *repositoriesData) sort(rows []store.RepositorySummary) {
	by, reverse := strings.CutPrefix(d.Sort, "-")
	compare := sorts[by]
	if compare == nil {
		d.Sort, compare, reverse = "-pushed", sorts["pushed"], true
	}
	slices.SortStableFunc(rows, func(a, b store.RepositorySummary) int {
		c := compare(a, b)
		if reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.Name.String(), b.Name.String()))
	})
}

// withPulls adds the pulls of each day to the rows of a page.
func (h *Handler) withPulls(r *request, rows []store.RepositorySummary) ([]repositoryItem, error) {
	items := make([]repositoryItem, len(rows))
	names := make([]oci.Name, len(rows))
	for i, row := range rows {
		items[i].RepositorySummary, names[i] = row, row.Name
	}
	if len(rows) == 0 {
		return items, nil
	}
	first := h.now().Add(-(pullDays - 1) * 24 * time.Hour)
	days, err := h.Store.PullsByDay(r.Context(), names, first, pullDays)
	if err != nil {
		return nil, err
	}
	for i := range items {
		pulls := days[items[i].Name]
		items[i].Pulls = 0
		for _, n := range pulls {
			items[i].Pulls += n
		}
		items[i].Spark = newSpark(pulls)
	}
	return items, nil
}

func kinds(all []store.RepositorySummary) (found []oci.ArtifactKind) {
	for _, s := range all {
		if s.Kind != "" && !slices.Contains(found, s.Kind) {
			found = append(found, s.Kind)
		}
	}
	slices.Sort(found)
	return found
}

// namespaces returns the namespaces one step below one, each with how many repositories it holds.
func namespaces(all []store.RepositorySummary, of string) (found []namespaceItem) {
	at := make(map[string]int)
	for _, s := range all {
		first, _, ok := strings.Cut(strings.TrimPrefix(s.Name.String(), of), "/")
		if !ok {
			continue
		}
		i, known := at[first]
		if !known {
			i, at[first] = len(found), len(found)
			found = append(found, namespaceItem{Path: namespacePath(of + first + "/"), Text: first + "/"})
		}
		found[i].Count++
	}
	return found
}

func clampPage(text string, pages int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 1
	}
	return min(max(n, 1), pages)
}

// linker returns what makes links to a page with another parameter. A change of what is listed begins at its start.
func linker(u *url.URL) func(key, value string) string {
	return func(key, value string) string {
		q := u.Query()
		q.Set(key, value)
		for _, k := range []string{"page", "after"} {
			if key != k {
				q.Del(k)
			}
		}
		if value == "" {
			q.Del(key)
		}
		if len(q) == 0 {
			return u.EscapedPath()
		}
		return u.EscapedPath() + "?" + q.Encode()
	}
}

// A column is the head of one of a table's columns by which it can be sorted.
type column struct {
	Text, Link string
	Aria       string // ascending, descending or ""
	Class      string
}

// Clear returns the path of the list without a filter.
func (d repositoriesData) Clear() string { return "/" + d.Namespace }

// Column returns the head of a column: following it sorts by it, and again the other way round. Numbers and times
// begin with the largest.
func (d repositoriesData) Column(text, by, class string) column {
	return sortColumn(d.Link, d.Sort, text, by, class, by != "name")
}

func sortColumn(link func(key, value string) string, now, text, by, class string, largestFirst bool) column {
	c := column{Text: text, Class: class}
	next := by
	if largestFirst {
		next = "-" + by
	}
	switch now {
	case by:
		c.Aria, next = "ascending", "-"+by
	case "-" + by:
		c.Aria, next = "descending", by
	}
	c.Link = link("sort", next)
	return c
}

// A spark is a small chart of one number a day, in a box of 60 to 16.
type spark struct {
	Points []sparkBar
	Label  string
}

type sparkBar struct{ X, Y, Height int }

const (
	sparkWidth  = 2
	sparkHeight = 16
)

// newSpark returns the chart of some days, or nil when there is nothing to show.
func newSpark(days []int64) *spark {
	high := int64(0)
	for _, n := range days {
		high = max(high, n)
	}
	if high == 0 {
		return nil
	}
	s := &spark{Label: "pulls of each of the last " + strconv.Itoa(len(days)) + " days, at most " + strconv.FormatInt(high, 10) + " a day"}
	for i, n := range days {
		if n == 0 {
			continue
		}
		height := max(1, int(n*sparkHeight/high))
		s.Points = append(s.Points, sparkBar{i * sparkWidth, sparkHeight - height, height})
	}
	return s
}
