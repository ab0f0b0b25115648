package web

import (
	"errors"
	"net/http"
	"strconv"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
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
	Now        digest.Digest // where the tag is, "" when it is gone
	Here       bool          // the tag is where this move put it, as far as this page tells
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
	now, err := h.tagsNow(r, moves)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, m := range moves {
		item := moveItem{TagMove: m, Now: now[m.Tag].Digest, Here: before <= 0 && !seen[m.Tag]}
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

// tagsNow returns where the tags of some moves are now.
func (h *Handler) tagsNow(r *request, moves []store.TagMove) (map[string]store.TagTarget, error) {
	var tags []oci.Tag
	for _, m := range moves {
		tag, err := oci.ParseTag(m.Tag)
		if err != nil {
			return nil, err
		}
		tags = append(tags, tag)
	}
	return h.Store.TagTargets(r.Context(), r.route.name, tags)
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
	// The form says where the tag was when it was shown: nothing that came there since is moved away.
	from := r.PostForm.Get("from")
	at, err := h.Store.TagTargets(r.Context(), r.route.name, []oci.Tag{tag})
	if err != nil {
		return err
	}
	if now := at[tag.String()].Digest.String(); now != from && now != r.PostForm.Get("to") {
		return ErrPlanChanged
	}
	m, err := h.Store.Restore(r.Context(), r.route.name, tag, to, from == "" || !r.who.May(store.ActionOverwrite, r.route.name), r.actor())
	if from == "" && errors.Is(err, store.ErrOverwrite) {
		err = ErrPlanChanged
	}
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
