package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
	"cubby/web/module"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// moduleType is the artifact type of a module package, zipType the media type of its one layer. OpenTofu takes no others.
const (
	moduleType = "application/vnd.opentofu.modulepkg"
	zipType    = "archive/zip"
)

// Limits of what is looked into and shown of module packages.
const (
	moduleFilesMax = 1000 // files that a page lists
	moduleLookTime = 20 * time.Second
)

// A modulePackage is what is known of one directory of a package: of its archive, and of the module in it.
type modulePackage struct {
	Problem   string         // why there is nothing to see, or ""
	Module    *module.Module // nil: see Problem
	Readme    readme         // of the module, laid out; Module has none any more
	Files     []module.File
	MoreFiles int
	Dirs      []string // of other modules
	MoreDirs  int
}

func (p *modulePackage) bytes() int64 {
	n := int64(256 + len(p.Problem))
	if p.Module != nil {
		n += p.Module.Bytes() + p.Readme.size()
	}
	for _, f := range p.Files {
		n += int64(64 + len(f.Name) + len(f.Problem))
	}
	for _, d := range p.Dirs {
		n += int64(16 + len(d))
	}
	return n
}

// moduleData is what the pages of a module show.
type moduleData struct {
	Head     manifestHead
	Commands []command
	*modulePackage
	Dir      string // of the module in its package, "" for the root
	Modules  []moduleLink
	Examples []moduleLink
	HTTPS    bool
}

type moduleLink struct{ Text, Path string }

// modulePage shows a module of a package: that in its root, or one of a directory.
func (h *Handler) modulePage(w http.ResponseWriter, r *request) error {
	head, err := h.moduleHead(r)
	if err != nil {
		return err
	}
	p, err := h.modulePackage(r, head.Raw, r.route.arg)
	if err != nil {
		return err
	}
	d := moduleData{Head: head, modulePackage: p, Dir: r.route.arg}
	title := "Module · " + r.route.ref.String() + " · " + r.route.name.String()
	if d.Dir != "" {
		title = d.Dir + " · " + title
	}
	v := h.view(w, r, title, &d)
	v.Section = "repositories"
	t := target{v.Host, v.HTTPS, r.route.name, head.Tag, head.Digest}
	d.Commands, d.HTTPS = t.moduleCommands(d.Dir), v.HTTPS
	for _, dir := range p.Dirs {
		link := moduleLink{dir, modulePath(head.ByDigest, dir)}
		if strings.HasPrefix(dir, "examples/") {
			d.Examples = append(d.Examples, link)
		} else {
			d.Modules = append(d.Modules, link)
		}
	}
	return h.render(w, r, http.StatusOK, "module", v)
}

// moduleReadme returns the README of a module package.
func (h *Handler) moduleReadme(r *request, m artifact) (readme, error) {
	var of struct {
		ArtifactType string `json:"artifactType"`
	}
	if json.Unmarshal(m.Raw, &of) != nil || of.ArtifactType != moduleType {
		return readme{}, nil
	}
	p, err := h.modulePackage(r, m.Raw, "")
	if err != nil {
		return readme{}, err
	}
	if p.Module == nil {
		return readme{Name: "README.md", Problem: p.Problem}, nil
	}
	return p.Readme, nil
}

// moduleHead returns what stands above the pages of a module. Other manifests have none.
func (h *Handler) moduleHead(r *request) (manifestHead, error) {
	head, err := h.manifestHead(r, "module")
	if err == nil && head.Facts.Kind != oci.KindModule {
		err = fmt.Errorf("%w: this manifest is no module package of OpenTofu", errPath)
	}
	return head, err
}

// errModule says in a sentence why there is nothing to see of a package.
var errModule = errors.New("the module cannot be shown")

// moduleArchive opens the archive of a package, and thereby asks whether the repository has it: whoever can push a
// manifest can name a blob of another repository.
func (h *Handler) moduleArchive(r *request, raw []byte) (*store.Blob, error) {
	layers := readDescriptors(raw).Layers
	if len(layers) != 1 || layers[0].MediaType != zipType {
		return nil, fmt.Errorf("%w: a module package has exactly one layer, of the media type %s, and this one has %s", errModule, zipType, layersText(layers))
	}
	b, err := h.Store.OpenBlob(r.Context(), r.route.name, layers[0].Digest)
	if errors.Is(err, store.ErrBlobUnknown) {
		return nil, fmt.Errorf("%w: its archive is not stored here", errModule)
	}
	return b, err
}

func layersText(layers []v1.Descriptor) string {
	if len(layers) == 1 {
		return fmt.Sprintf("one of %.100q", layers[0].MediaType)
	}
	return fmt.Sprint(len(layers))
}

// modulePackage returns what a manifest's archive holds in a directory. Whether the repository has the archive is asked
// before what is kept of it.
func (h *Handler) modulePackage(r *request, raw []byte, dir string) (*modulePackage, error) {
	b, err := h.moduleArchive(r, raw)
	if errors.Is(err, errModule) {
		return &modulePackage{Problem: sentence(err)}, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	key := "module " + b.Digest.String() + " " + dir
	return made(h, r, key, func() (*modulePackage, int64, error) {
		ctx, cancel := context.WithTimeout(r.Context(), moduleLookTime)
		defer cancel()
		p, err := lookIntoModule(ctx, b, dir)
		if err = tooLong(err); errors.Is(err, errModule) {
			return &modulePackage{Problem: sentence(err)}, -1, nil // another time it may be faster
		}
		if err != nil {
			return nil, 0, err
		}
		return p, p.bytes() + int64(len(key)), nil
	})
}

func lookIntoModule(ctx context.Context, b *store.Blob, dir string) (*modulePackage, error) {
	p := &modulePackage{}
	archive, err := module.Open(ctx, b, b.Size)
	if err == nil {
		p.Module, err = archive.Load(dir)
	}
	switch {
	case isModuleProblem(err):
		p.Problem = sentence(err)
	case err != nil:
		return nil, err
	default:
		if m := p.Module; strings.TrimSpace(m.Readme) != "" {
			p.Readme, m.Readme = layOut(path.Base(m.ReadmeName), m.Readme), ""
		}
		p.Files = archive.Files
		p.MoreFiles = max(0, len(p.Files)-moduleFilesMax)
		p.Files = slices.Clone(p.Files[:len(p.Files)-p.MoreFiles])
		p.Dirs, p.MoreDirs = archive.Modules()
	}
	return p, nil
}

// isModuleProblem reports whether an error is the fault of who made the package.
func isModuleProblem(err error) bool {
	return errors.Is(err, module.ErrNotZip) || errors.Is(err, module.ErrDamaged) || errors.Is(err, module.ErrLimit) || errors.Is(err, module.ErrNotRead) || errors.Is(err, errModule)
}

// modulePath returns the path of the page of a directory of a package.
func modulePath(manifest, dir string) string {
	return strings.TrimSuffix(manifest+"/-/module/"+escapePath(dir), "/")
}

// escapePath makes the name of a file a part of a URL's path. A colon is escaped too: nothing then looks like a scheme.
func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(part), ":", "%3A")
	}
	return strings.Join(parts, "/")
}

// parseModule reads what follows /-/module in a path.
func (rt route) parseModule(rest string) (route, error) {
	if rest == "" {
		rt.place = placeModule
		return rt, nil
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	rt.place = map[string]place{"files": placeModuleFile, "download": placeModuleDownload, "modules": placeModule, "examples": placeModule}[kind]
	if rt.arg = name; rt.place == placeModule {
		rt.arg = kind + "/" + name
	}
	if rt.place == 0 || !fs.ValidPath(name) || name == "." || len(name) > argMax {
		return rt, errPath
	}
	return rt, nil
}
