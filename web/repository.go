package web

import (
	"errors"
	"net/http"
	"strings"

	"cubby/store"
	"cubby/store/oci"
)

// repositoryHead is what stands above all pages of a repository.
type repositoryHead struct {
	store.RepositoryDetail
	Parts       []namePart
	Description string
	Links       []link
	Licence     string
	Tab         string
	Path        string
	CanDelete   bool
	CanPush     bool
	HasReadme   bool // it may have one, as far as its newest tag tells
}

type link struct{ Text, URL string }

// repositoryHead costs one statement.
func (h *Handler) repositoryHead(r *request, tab string) (repositoryHead, error) {
	d, err := h.Store.Summary(r.Context(), r.route.name)
	if err != nil {
		return repositoryHead{}, err
	}
	a := d.Facts.Annotations
	head := repositoryHead{
		RepositoryDetail: d, Parts: nameParts(r.route.name), Description: a["org.opencontainers.image.description"],
		Licence: a["org.opencontainers.image.licenses"], Tab: tab, Path: repositoryPath(r.route.name),
		CanDelete: h.may(r, store.ActionDelete), CanPush: h.may(r, store.ActionPush),
	}
	head.HasReadme = head.Description != "" || d.Facts.Kind != "" && d.Facts.Kind != oci.KindContainer
	for _, l := range []link{{"Source", a["org.opencontainers.image.source"]}, {"Website", a["org.opencontainers.image.url"]}, {"Documentation", a["org.opencontainers.image.documentation"]}} {
		if webURL(l.URL) != "" {
			head.Links = append(head.Links, l)
		}
	}
	return head, nil
}

// repositoryData is what the list of a repository's tags shows.
type repositoryData struct {
	Head        repositoryHead
	Tags        store.TagPage
	Rows        []tagItem
	Match       string
	Sort        string
	Subjects    bool
	Platform    string
	After       string
	Commands    []command
	Removed     []store.RemovedTag
	MoreRemoved bool
	Below       []oci.Name
	Link        func(key, value string) string
}

type tagItem struct {
	store.TagRow
	Command string // to copy
}

// Column is as for repositories.
func (d repositoryData) Column(text, by, class string) column {
	return sortColumn(d.Link, d.Sort, text, by, class, by != "name")
}

func (h *Handler) repositoryPage(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	head, err := h.repositoryHead(r, "tags")
	if errors.Is(err, store.ErrNameUnknown) {
		return h.namespaceInstead(w, r, err)
	}
	if err != nil {
		return err
	}
	d := repositoryData{
		Head: head, Match: strings.TrimSpace(q.Get("q")), Sort: q.Get("sort"), Subjects: q.Get("signatures") == "1", After: q.Get("after"),
		Platform: q.Get("platform"), Link: linker(r.URL),
	}
	order := d.order()
	if d.Match != "" || d.Platform != "" || strings.Contains(d.Sort, "pull") || strings.Contains(d.Sort, "used") { // it looks at all tags
		done, err := h.costly(r)
		if err != nil {
			return err
		}
		defer done()
	}
	d.Tags, err = h.Store.TagPage(r.Context(), r.route.name, store.TagQuery{
		Match: d.Match, Sort: order, Subjects: d.Subjects, Platform: d.Platform, After: d.After, N: pageRows,
	})
	if err != nil {
		return err
	}
	v := h.view(w, r, r.route.name.String(), &d)
	v.Section = "repositories"
	var newest store.TagRow
	for _, row := range d.Tags.Rows {
		t := target{v.Host, v.HTTPS, r.route.name, row.Name, row.Digest}
		commands := t.commands(row.Kind, v.Client)
		d.Rows = append(d.Rows, tagItem{row, commands[0].Text})
		if isNewer(row, newest) {
			newest, d.Commands = row, commands
		}
	}
	if d.After == "" && d.Match == "" {
		if d.Removed, err = h.Store.RemovedTags(r.Context(), r.route.name, removedRows+1); err != nil {
			return err
		}
		if len(d.Removed) > removedRows {
			d.Removed, d.MoreRemoved = d.Removed[:removedRows], true
		}
		if d.Below, err = h.below(r, r.route.name.String()+"/", belowRows); err != nil {
			return err
		}
	}
	return h.render(w, r, http.StatusOK, "repository", v)
}

// isNewer reports whether the command above the list is better one for a than for b: for what was pushed last, and of
// what came together for the highest, or latest.
func isNewer(a, b store.TagRow) bool {
	if !a.PushedAt.Equal(b.PushedAt) {
		return a.PushedAt.After(b.PushedAt)
	}
	return oci.TagOrder(a.Name) > oci.TagOrder(b.Name)
}

const (
	removedRows = 5
	belowRows   = 10
)

// order returns the order that the URL asks for, where a dash means the largest or newest first, and makes it the default
// if there is no such order.
func (d *repositoryData) order() store.TagSort {
	by, largest := strings.CutPrefix(d.Sort, "-")
	sort, err := store.ParseTagSort(by)
	if err != nil || by == "" {
		d.Sort = "-pushed"
		return store.TagsByPushed
	}
	if largest != (by != "name") {
		sort = sort.Reverse() // the store begins with the largest, but for names
	}
	return sort
}

// namespaceInstead leads to the namespace that is named like the repository that is not there, if there is one.
func (h *Handler) namespaceInstead(w http.ResponseWriter, r *request, unknown error) error {
	prefix := r.route.name.String() + "/"
	below, err := h.below(r, prefix, 1)
	if err != nil || len(below) == 0 {
		return errors.Join(err, unknown)
	}
	redirect(w, r, namespacePath(prefix))
	return nil
}

// belowMax bounds how many names are looked at for those that the viewer sees.
const belowMax = 1000

// below returns the first n repositories whose name begins with prefix and that the viewer sees.
func (h *Handler) below(r *request, prefix string, n int) (names []oci.Name, err error) {
	all, err := h.Store.Names(r.Context(), prefix, belowMax)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if !strings.HasPrefix(name.String(), prefix) || len(names) == n {
			break
		}
		if r.who.Sees(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
