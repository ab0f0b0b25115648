package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// deleteData is what stands on the page that asks before something is removed.
type deleteData struct {
	Name     oci.Name
	Parts    []namePart
	Path     string // where the form goes
	Back     string
	Tag      string // the one that goes, or "" for the manifest
	Digest   digest.Digest
	Effects  store.Effects
	Untagged time.Duration // how long what has no tag is kept
	Used     time.Duration
	Loses    bool // it is the last tag
	Refused  bool // an index names the manifest
	Tags     string
}

// deletePage tells what removing a tag, a manifest or a repository does, before it is done.
func (h *Handler) deletePage(w http.ResponseWriter, r *request) error {
	if !r.route.hasRef() {
		return h.deleteRepositoryPage(w, r)
	}
	done, err := h.costly(r)
	if err != nil {
		return err
	}
	defer done()
	e, err := h.Store.EffectsOf(r.Context(), r.route.name, r.route.ref)
	if err != nil {
		return err
	}
	d := deleteData{
		Name: r.route.name, Parts: nameParts(r.route.name), Path: r.route.path() + "/-/delete", Back: r.route.path(),
		Tag: r.route.ref.Tag.String(), Digest: e.Digest, Effects: e,
	}
	d.Untagged, d.Used = h.Keep(r.route.name)
	d.Tags = tagsText(e)
	d.Loses = e.TagCount == 0
	d.Refused = d.Tag == "" && len(e.Parents) > 0
	return h.render(w, r, http.StatusOK, "delete", h.view(w, r, "Delete "+r.route.ref.String()+" · "+r.route.name.String(), &d))
}

// deleteReference removes what the page before showed: a tag only while it is at the digest that was shown.
func (h *Handler) deleteReference(w http.ResponseWriter, r *request) error {
	if !r.route.hasRef() {
		return h.deleteRepository(w, r)
	}
	shown, err := oci.ParseDigest(r.PostForm.Get("digest"))
	if err != nil {
		return err
	}
	back := repositoryPath(r.route.name)
	if r.route.ref.IsDigest() {
		e, err := h.Store.EffectsOf(r.Context(), r.route.name, r.route.ref)
		if err != nil {
			return err
		}
		if shown != r.route.ref.Digest || r.PostForm.Get("tags") != tagsText(e) {
			return ErrPlanChanged
		}
		if err := h.Store.DeleteManifest(r.Context(), r.route.name, shown, store.Condition{}, r.actor()); err != nil {
			return err
		}
		h.putFlash(w, r, flash{Text: "The manifest " + shortDigest(shown) + " was removed for good, with its tags."})
		redirect(w, r, back)
		return nil
	}
	tag := r.route.ref.Tag
	if err := h.Store.DeleteTag(r.Context(), r.route.name, tag, store.Condition{Match: []string{shown.String()}}, r.actor()); err != nil {
		return err
	}
	f := flash{Text: "Tag " + tag.String() + " was removed."}
	if r.who.May(store.ActionPush, r.route.name) {
		f.Action, f.Label, f.Tag, f.To = back+"/-/restore", "Undo", tag.String(), shown.String()
	}
	h.putFlash(w, r, f)
	redirect(w, r, back)
	return nil
}

// tagsText tells what tags a manifest had when the page before its removal was made: they go with it.
func tagsText(e store.Effects) string {
	return strings.Join(e.Tags, " ") + " " + strconv.Itoa(e.TagCount)
}

// bulkData is what stands on the page that asks before several tags are removed.
type bulkData struct {
	Name     oci.Name
	Parts    []namePart
	Path     string
	Back     string
	Items    []bulkItem
	Gone     []string // that were chosen and are not there
	Confirm  bool     // the name must be typed
	Untagged time.Duration
	Used     time.Duration
}

type bulkItem struct {
	Tag    string
	Digest digest.Digest
	Loses  bool // no other tag leads there, but for those that go too
}

// bulkMax bounds how many tags a form takes, and confirmAbove how many go without typing the name.
const (
	bulkMax      = 500
	confirmAbove = 10
)

// deleteTagsPage tells what removing the chosen tags does.
func (h *Handler) deleteTagsPage(w http.ResponseWriter, r *request) error {
	chosen := r.URL.Query()["tag"]
	if _, err := h.Store.RepositoryUse(r.Context(), r.route.name); err != nil {
		return err
	}
	if len(chosen) == 0 {
		h.putFlash(w, r, flash{Text: "Choose tags first: each row has a box for that."})
		redirect(w, r, repositoryPath(r.route.name))
		return nil
	}
	d := bulkData{Name: r.route.name, Parts: nameParts(r.route.name), Path: repositoryPath(r.route.name) + "/-/tags/delete", Back: repositoryPath(r.route.name)}
	tags, err := parseTags(chosen)
	if err != nil {
		return err
	}
	found, err := h.Store.TagTargets(r.Context(), r.route.name, tags)
	if err != nil {
		return err
	}
	going := make(map[digest.Digest]int64)
	for _, target := range found {
		going[target.Digest]++
	}
	for _, tag := range tags {
		if target, ok := found[tag.String()]; ok {
			d.Items = append(d.Items, bulkItem{tag.String(), target.Digest, going[target.Digest] == target.Tags})
		} else {
			d.Gone = append(d.Gone, tag.String())
		}
	}
	d.Confirm = len(d.Items) > confirmAbove
	d.Untagged, d.Used = h.Keep(r.route.name)
	return h.render(w, r, http.StatusOK, "delete-tags", h.view(w, r, "Delete tags · "+r.route.name.String(), &d))
}

func parseTags(texts []string) (tags []oci.Tag, err error) {
	if len(texts) > bulkMax {
		return nil, fmt.Errorf("%w: more than %d tags at once", errForm, bulkMax)
	}
	for _, text := range texts {
		tag, err := oci.ParseTag(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// deleteTags removes the tags that were shown, each while it is at the digest that was shown.
func (h *Handler) deleteTags(w http.ResponseWriter, r *request) error {
	shown := r.PostForm["tag"] // TAG@DIGEST
	if len(shown) == 0 || len(shown) > bulkMax {
		return fmt.Errorf("%w: no tag was chosen, or more than %d", errForm, bulkMax)
	}
	if len(shown) > confirmAbove && r.PostForm.Get("confirm") != r.route.name.String() {
		return fmt.Errorf("%w: to remove %d tags, go back and type the name of the repository, %s", errConfirm, len(shown), r.route.name)
	}
	removed := 0
	var stays []string
	for _, text := range shown {
		name, dgst, _ := strings.Cut(text, "@")
		tag, err := oci.ParseTag(name)
		if err != nil {
			return err
		}
		if _, err := oci.ParseDigest(dgst); err != nil {
			return err // a condition knows * too
		}
		err = h.Store.DeleteTag(r.Context(), r.route.name, tag, store.Condition{Match: []string{dgst}}, r.actor())
		switch {
		case err == nil:
			removed++
		case errors.Is(err, store.ErrPrecondition), errors.Is(err, store.ErrManifestUnknown), errors.Is(err, store.ErrImmutable):
			stays = append(stays, name)
		default:
			return err
		}
	}
	text := plural(int64(removed), "tag was removed.", "tags were removed.")
	if len(stays) > 0 {
		text += fmt.Sprintf(" %s moved meanwhile, or may not be removed: %s.", plural(int64(len(stays)), "tag", "tags"), strings.Join(stays[:min(len(stays), 10)], ", "))
	}
	h.putFlash(w, r, flash{Text: text})
	redirect(w, r, repositoryPath(r.route.name))
	return nil
}

// deleteRepositoryData is what stands on the page that asks before all tags of a repository are removed.
type deleteRepositoryData struct {
	Name     oci.Name
	Parts    []namePart
	Path     string
	Back     string
	Plan     Plan
	Shown    []PlanLine
	Untagged time.Duration
	Used     time.Duration
}

// planShown bounds the lines of a plan that a page shows.
const planShown = 200

func (h *Handler) deleteRepositoryPage(w http.ResponseWriter, r *request) error {
	if _, err := h.Store.RepositoryUse(r.Context(), r.route.name); err != nil {
		return err
	}
	var plan Plan
	err := h.unlessWaiting(r, func(ctx context.Context) (err error) {
		plan, err = h.Collector.PlanRemoval(ctx, r.route.name)
		return err
	})
	if err != nil {
		return err
	}
	path := repositoryPath(r.route.name)
	d := deleteRepositoryData{Name: r.route.name, Parts: nameParts(r.route.name), Path: path + "/-/delete", Back: path, Plan: plan, Shown: plan.Lines[:min(len(plan.Lines), planShown)]}
	d.Untagged, d.Used = h.Keep(r.route.name)
	return h.render(w, r, http.StatusOK, "delete-repository", h.view(w, r, "Delete "+r.route.name.String(), &d))
}

func (h *Handler) deleteRepository(w http.ResponseWriter, r *request) error {
	if r.PostForm.Get("confirm") != r.route.name.String() {
		return fmt.Errorf("%w: to remove all tags, go back and type the name of the repository, %s", errConfirm, r.route.name)
	}
	n, err := h.Collector.Remove(r.Context(), r.route.name, r.PostForm.Get("plan"), r.actor())
	if err != nil {
		return err
	}
	h.putFlash(w, r, flash{Text: plural(n, "tag was removed", "tags were removed") + " from " + r.route.name.String() + ". Each can be restored until what it led to is collected."})
	redirect(w, r, repositoryPath(r.route.name))
	return nil
}
