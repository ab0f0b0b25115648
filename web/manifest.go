package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestHead is what stands above all pages of a manifest.
type manifestHead struct {
	store.ManifestDetail
	Parts     []namePart
	Name      oci.Name
	Tag       string // that the page was asked by, or ""
	Tab       string
	Path      string // of its overview
	ByDigest  string // the same, by digest
	CanDelete bool
	Index     bool
	Attached  []string // what its referrers are, for badges
	Tabs      []tab
	Chart     *chartParts // nil for what is no chart
}

func (h *Handler) manifestHead(r *request, tab string) (manifestHead, error) {
	d, err := h.Store.Detail(r.Context(), r.route.name, r.route.ref)
	if err != nil {
		return manifestHead{}, err
	}
	head := manifestHead{
		ManifestDetail: d, Parts: nameParts(r.route.name), Name: r.route.name, Tag: r.route.ref.Tag.String(), Tab: tab,
		Path: r.route.path(), ByDigest: digestPath(r.route.name, d.Digest), CanDelete: h.may(r, store.ActionDelete),
		Index: oci.KindOf(d.MediaType) == oci.KindIndex,
	}
	head.addTabs(readDescriptors(d.Raw))
	for _, r := range d.Referrers {
		head.Attached = append(head.Attached, r.Provides...)
	}
	for _, c := range d.Children {
		if c.Kind.IsAttached() {
			head.Attached = append(head.Attached, c.Provides...)
		}
	}
	slices.Sort(head.Attached)
	head.Attached = slices.Compact(head.Attached)
	return head, nil
}

// manifestData is what the overview of a manifest shows.
type manifestData struct {
	Head      manifestHead
	Commands  []command
	Others    []string // tags at the same digest
	More      int      // of them that are not listed
	SizeMin   int64
	SizeMax   int64
	Platforms []platformItem
	Attached  []attachedItem // attestations in the index
	Files     []fileItem
	Rest      int // entries and files that are not listed
	Config    *v1.Descriptor
	ConfigRaw string // of an artifact, if it is small and text
	Secrets   map[string]bool
	BaseName  string
	BaseLink  string
	Goes      time.Time
	Held      bool // by a tag, an index or what it is attached to
	Chart     *chartView
	Module    *modulePackage
}

type platformItem struct {
	v1.Descriptor
	Platform string
	Child    store.Child
	Here     bool
}

type attachedItem struct {
	Digest digest.Digest
	What   string
	Of     digest.Digest
	Here   bool
}

type fileItem struct {
	v1.Descriptor
	Title string
}

func (h *Handler) manifestPage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "overview")
	if err != nil {
		return err
	}
	d := manifestData{Head: head}
	v := h.view(w, r, r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	d.Commands = target{v.Host, v.HTTPS, r.route.name, d.Head.Tag, head.Digest}.commands(head.Facts.Kind, v.Client)
	for _, tag := range head.Tags {
		if tag != head.Tag {
			d.Others = append(d.Others, tag)
		}
	}
	d.More = head.TagCount - len(head.Tags)
	d.read(head.Raw)
	d.secrets()
	d.base(r)
	d.Held = head.TagCount > 0 || len(head.Parents) > 0 || head.Subject != ""
	if !d.Held {
		d.Goes = h.goes(r, head.UntaggedSince, head.LastUsed)
	}
	if head.Chart != nil {
		err = h.readChart(r, v, &d) // which has what the configuration says
	} else {
		err = h.artifactConfig(r, &d)
	}
	if err != nil {
		return err
	}
	if head.Facts.Kind == oci.KindModule {
		if d.Module, err = h.modulePackage(r, head.Raw, ""); err != nil {
			return err
		}
	}
	return h.render(w, r, http.StatusOK, "manifest", v)
}

// descriptors are the parts of a manifest that the page lists. They were checked when it was put, if the registry knows
// its media type; if not, what cannot be read is left out.
type descriptors struct {
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Blobs     []v1.Descriptor `json:"blobs"`
	Manifests []v1.Descriptor `json:"manifests"`
}

func readDescriptors(raw []byte) (d descriptors) {
	if json.Unmarshal(raw, &d) != nil {
		return descriptors{}
	}
	valid := func(all []v1.Descriptor) []v1.Descriptor {
		return slices.DeleteFunc(all, func(d v1.Descriptor) bool { _, err := oci.ParseDigest(d.Digest.String()); return err != nil })
	}
	d.Layers, d.Blobs, d.Manifests = valid(d.Layers), valid(d.Blobs), valid(d.Manifests)
	if d.Config != nil && len(valid([]v1.Descriptor{*d.Config})) == 0 {
		d.Config = nil
	}
	return d
}

// entriesMax bounds the entries of an index, and the files of an artifact, that a page lists.
const entriesMax = 500

// read takes over what the manifest names.
func (d *manifestData) read(raw []byte) {
	ds := readDescriptors(raw)
	d.Config = ds.Config
	for i, e := range ds.Manifests {
		if i == entriesMax {
			d.Rest = len(ds.Manifests) - entriesMax
			break
		}
		child, here := d.Head.Children[e.Digest]
		if of := e.Annotations["vnd.docker.reference.digest"]; e.Annotations["vnd.docker.reference.type"] != "" {
			what := kindText(child.Provides...)
			if what == "" {
				what = "attestation"
			}
			subject, err := oci.ParseDigest(of)
			if err != nil {
				subject = ""
			}
			d.Attached = append(d.Attached, attachedItem{e.Digest, what, subject, here})
			continue
		}
		item := platformItem{Descriptor: e, Child: child, Here: here, Platform: "unknown"}
		if e.Platform != nil && e.Platform.OS != "" {
			item.Platform = platformText(e.Platform)
		} else if len(child.Platforms) > 0 {
			item.Platform = child.Platforms[0]
		}
		if here && child.PullSize > 0 {
			if d.SizeMin == 0 || child.PullSize < d.SizeMin {
				d.SizeMin = child.PullSize
			}
			d.SizeMax = max(d.SizeMax, child.PullSize)
		}
		d.Platforms = append(d.Platforms, item)
	}
	if !d.Head.Index {
		d.SizeMin, d.SizeMax = d.Head.Facts.PullSize, d.Head.Facts.PullSize
	}
	if d.Head.Facts.Kind != "image" {
		files := append(ds.Layers, ds.Blobs...)
		d.Rest += max(0, len(files)-entriesMax)
		for _, l := range files[:min(len(files), entriesMax)] {
			d.Files = append(d.Files, fileItem{l, l.Annotations[v1.AnnotationTitle]})
		}
	}
}

func platformText(p *v1.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if p.OSVersion != "" {
		s += " " + p.OSVersion
	}
	return s
}

// secretWords are parts of names whose values may be nobody's business.
var secretWords = []string{"password", "passwd", "secret", "token", "apikey", "api_key", "private_key", "credential", "access_key"}

func looksSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) })
}

// secrets finds values in the configuration that look as if they should not be there.
func (d *manifestData) secrets() {
	c := d.Head.Facts.Config
	if c == nil {
		return
	}
	d.Secrets = make(map[string]bool)
	for _, env := range c.Env {
		if name, value, _ := strings.Cut(env, "="); value != "" && looksSecret(name) {
			d.Secrets[env] = true
		}
	}
	for name := range c.Labels {
		if looksSecret(name) {
			d.Secrets[name] = true
		}
	}
}

// base says on what the image was built, and links to it if that is here.
func (d *manifestData) base(r *request) {
	a := d.Head.Facts.Annotations
	d.BaseName = a[v1.AnnotationBaseImageName]
	dgst, err := oci.ParseDigest(a[v1.AnnotationBaseImageDigest])
	if err == nil && d.BaseName == "" {
		d.BaseName = dgst.String()
	}
	if err == nil {
		d.BaseLink = "/-/search?q=" + dgst.String()
	}
}

// configMax bounds the bytes of an artifact's configuration that stand on its page.
const configMax = 16 << 10

// emptyConfig is what the spec puts where an artifact has no configuration.
const emptyConfig = "application/vnd.oci.empty.v1+json"

// artifactConfig reads the configuration of what is no image, if it is small.
func (h *Handler) artifactConfig(r *request, d *manifestData) error {
	c := d.Config
	if c == nil || d.Head.Facts.Kind == "image" || c.MediaType == emptyConfig || c.Size > configMax {
		return nil
	}
	text, err := h.readText(r, c.Digest, configMax)
	if err != nil {
		return err
	}
	d.ConfigRaw = indent(text)
	return nil
}
