package web

import (
	"net/http"
	"strconv"

	"cubby/store"
	"cubby/store/oci"
)

// historyData is what the history of a tag, or of all tags of a repository, shows.
type historyData struct {
	Head  repositoryHead
	Tag   string
	Moves []moveItem
	Next  string
	Link  func(key, value string) string
}

type moveItem struct {
	store.TagMove
	Here       bool // the tag is where this move put it, as far as this page tells
	CanRestore bool
}

func (h *Handler) historyPage(w http.ResponseWriter, r *request) error {
	before, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64) // what is no number is the beginning
	head, err := h.repositoryHead(r, "history")
	if err != nil {
		return err
	}
	d := historyData{Head: head, Tag: r.route.ref.Tag.String(), Link: linker(r.URL)}
	moves, err := h.Store.History(r.Context(), r.route.name, r.route.ref.Tag, max(before, 0), pageRows+1)
	if err != nil {
		return err
	}
	if len(moves) > pageRows {
		moves = moves[:pageRows]
		d.Next = strconv.FormatInt(moves[len(moves)-1].ID, 10)
	}
	seen := make(map[string]bool)
	for _, m := range moves {
		item := moveItem{TagMove: m, Here: before <= 0 && !seen[m.Tag]}
		seen[m.Tag] = true
		item.CanRestore = head.CanPush && m.To != "" && !m.Deleted && !item.Here
		d.Moves = append(d.Moves, item)
	}
	title := "History · " + r.route.name.String()
	if d.Tag != "" {
		title = "History of " + d.Tag + " · " + r.route.name.String()
	}
	v := h.view(w, r, title, &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "history", v)
}

// restore points a tag to where it was: the undo of a removal, and of a push.
func (h *Handler) restore(w http.ResponseWriter, r *request) error {
	tag, err := oci.ParseTag(r.PostForm.Get("tag"))
	if err != nil {
		return err
	}
	to, err := store.ParseTarget(r.PostForm.Get("to"))
	if err != nil {
		return err
	}
	m, err := h.Store.Restore(r.Context(), r.route.name, tag, to, !r.who.May(store.ActionOverwrite, r.route.name), r.actor())
	if err != nil {
		return err
	}
	text := "Tag " + tag.String() + " is at " + shortDigest(m.To) + " again."
	if m.From == m.To {
		text = "Tag " + tag.String() + " is at " + shortDigest(m.To) + " already."
	}
	h.putFlash(w, r, flash{Text: text})
	redirect(w, r, ownPathOr(r.PostForm.Get("next"), repositoryPath(r.route.name)))
	return nil
}

// ownPathOr is ownPath, with another default.
func ownPathOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return ownPath(s)
}
