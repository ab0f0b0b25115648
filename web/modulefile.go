package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"cubby/store/oci"
	"cubby/web/module"

	"github.com/opencontainers/go-digest"
)

// moduleFileData is what the page of a file in a module package shows.
type moduleFileData struct {
	Head     manifestHead
	File     string
	Size     int64
	Lines    []line
	Problem  string // why nothing is shown, or ""
	Cut      bool   // there are more lines
	Download string
	Module   string // path of the page of the module that it belongs to
	Dir      string
}

// readModuleFile returns a file of the package, of at most module.FileMax bytes. Errors are of module, errModule, or
// failures.
func (h *Handler) readModuleFile(r *request, raw []byte, name string) ([]byte, error) {
	b, err := h.moduleArchive(r, raw)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	done, err := h.makes.take(r.Context(), r.who.Quota())
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), moduleLookTime)
	defer cancel()
	p, err := module.Open(ctx, b, b.Size)
	if err != nil {
		return nil, tooLong(err)
	}
	content, err := p.Read(name)
	return content, tooLong(err)
}

// tooLong says of what took too long that it did.
func tooLong(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: it takes too long to look into its archive", errModule)
	}
	return err
}

func (h *Handler) moduleFilePage(w http.ResponseWriter, r *request) error {
	head, err := h.moduleHead(r)
	if err != nil {
		return err
	}
	d := moduleFileData{Head: head, File: r.route.arg, Module: modulePath(head.ByDigest, "")}
	if dir := path.Dir(d.File); strings.HasPrefix(dir, "modules/") || strings.HasPrefix(dir, "examples/") {
		d.Dir, d.Module = dir, modulePath(head.ByDigest, dir)
	}
	content, err := h.readModuleFile(r, head.Raw, d.File)
	switch {
	case isModuleProblem(err):
		d.Problem = sentence(err)
	case err != nil:
		return err
	default:
		d.Size, d.Download = int64(len(content)), head.ByDigest+"/-/module/download/"+escapePath(d.File)
		d.show(content)
	}
	v := h.view(w, r, d.File+" · Module · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "module-file", v)
}

func (d *moduleFileData) show(content []byte) {
	if !isText(content) {
		d.Problem = "This file is no text."
		return
	}
	d.Lines, d.Cut = textLines(string(content))
}

// downloadModuleFile sends a file of the package.
func (h *Handler) downloadModuleFile(w http.ResponseWriter, r *request) error {
	head, err := h.moduleHead(r)
	if err != nil {
		return err
	}
	content, err := h.readModuleFile(r, head.Raw, r.route.arg)
	if err != nil {
		return err
	}
	dgst := oci.SumDigest(digest.SHA256, content)
	attach(w.Header(), fileName(r.route.arg, dgst), dgst)
	http.ServeContent(w, r.Request, "", time.Time{}, bytes.NewReader(content))
	return nil
}
