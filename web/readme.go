package web

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"path"
	"strings"

	"cubby/store"
	"cubby/store/oci"
	"cubby/web/markdown"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A readme is what a text by its author says about an artifact.
type readme struct {
	Name    string        // of the file, "" for a description
	HTML    template.HTML // "" when it is shown as it is
	Lines   []line
	Cut     bool   // there are more lines
	Problem string // a sentence: why there is nothing, or not all
}

// There reports whether there is anything to show.
func (m readme) There() bool { return m.HTML != "" || len(m.Lines) > 0 || m.Problem != "" }

// readmeLevel is that of the highest heading: above are the page's own, and that of the section.
const readmeLevel = 3

// layOut returns a text as HTML, or as lines when it is too large or too tangled for that.
func layOut(name, text string) (m readme) {
	m.Name = name
	if html, ok := markdown.Render([]byte(text), readmeLevel); ok {
		m.HTML = html
		return m
	}
	m.Lines, m.Cut = textLines(text)
	return m
}

// size returns about how many bytes it takes.
func (m readme) size() (n int64) {
	n = int64(len(m.HTML)) + 1000
	for _, l := range m.Lines {
		n += int64(len(l.Pieces[0].Text)) + 100
	}
	return n
}

// textLines returns the lines of a text, as many as a page shows.
func textLines(text string) (lines []line, cut bool) {
	n := 0
	for s := range strings.Lines(text) {
		if n++; n > linesMax {
			return lines, true
		}
		lines = append(lines, line{n, []piece{{Text: strings.TrimRight(s, "\r\n")}}})
	}
	return lines, false
}

// A readmeReader finds the README of one kind of artifact; of others it returns the zero readme. What it reads must be in
// the repository of the request.
type readmeReader func(h *Handler, r *request, m artifact) (readme, error)

// An artifact is a manifest as far as its README is concerned.
type artifact struct {
	Raw         []byte
	Annotations map[string]string
}

// readmeReaders are asked in order; the first README that there is counts.
func readmeReaders() []readmeReader {
	return []readmeReader{(*Handler).chartReadme, (*Handler).moduleReadme, (*Handler).fileReadme}
}

// readmeOf returns the README of an artifact, or its description.
func (h *Handler) readmeOf(r *request, m artifact) (readme, error) {
	for _, read := range readmeReaders() {
		if text, err := read(h, r, m); err != nil || text.There() {
			return text, err
		}
	}
	text, cut := textLines(m.Annotations[v1.AnnotationDescription])
	return readme{Lines: text, Cut: cut}, nil
}

// readmeFile returns the file of an artifact that is its README, by its title or its media type.
func readmeFile(ds descriptors) (found v1.Descriptor, ok bool) {
	files := append(ds.Layers, ds.Blobs...)
	for _, l := range files[:min(len(files), entriesMax)] {
		if strings.EqualFold(path.Base(strings.ReplaceAll(l.Annotations[v1.AnnotationTitle], `\`, "/")), "README.md") {
			return l, true
		}
		if mediaType, _, _ := strings.Cut(l.MediaType, ";"); !ok && strings.TrimSpace(mediaType) == "text/markdown" {
			found, ok = l, true
		}
	}
	return found, ok
}

func (h *Handler) fileReadme(r *request, m artifact) (readme, error) {
	file, ok := readmeFile(readDescriptors(m.Raw))
	if !ok {
		return readme{}, nil
	}
	return h.readmeBlob(r, fileName(file.Annotations[v1.AnnotationTitle], file.Digest), file.Digest)
}

// readmeBlob lays out a blob of the repository.
func (h *Handler) readmeBlob(r *request, name string, dgst digest.Digest) (readme, error) {
	b, err := h.openHere(r, dgst)
	if b == nil {
		return readme{Name: name, Problem: "It is not stored here."}, err
	}
	defer b.Close()
	if b.Size > markdown.SourceMax {
		return readme{Name: name, Problem: "It has " + size(b.Size) + ", more than is shown here. The file can be downloaded."}, nil
	}
	return made(h, r, "readme "+dgst.String()+" "+name, func() (readme, int64, error) {
		text, err := io.ReadAll(io.LimitReader(b, markdown.SourceMax))
		if err != nil {
			return readme{}, 0, err
		}
		if !isText(text) {
			return readme{Name: name, Problem: "It is not a text."}, 100, nil
		}
		m := layOut(name, string(text))
		return m, m.size(), nil
	})
}

// openHere opens a blob of the repository of the request, or returns nil if it is not there. What a manifest names may be
// in another repository only, which the viewer may not see.
func (h *Handler) openHere(r *request, dgst digest.Digest) (*store.Blob, error) {
	b, err := h.Store.OpenBlob(r.Context(), r.route.name, dgst)
	if errors.Is(err, store.ErrBlobUnknown) {
		return nil, nil
	}
	return b, err
}

// repositoryReadmeData is what the README of a repository shows.
type repositoryReadmeData struct {
	Head   repositoryHead
	Readme readme
	Tag    string // that it is of
}

// repositoryReadmePage shows the README of the newest tag.
func (h *Handler) repositoryReadmePage(w http.ResponseWriter, r *request) error {
	head, err := h.repositoryHead(r, "readme")
	if err != nil {
		return err
	}
	d := repositoryReadmeData{Head: head}
	tags, err := h.Store.TagPage(r.Context(), r.route.name, store.TagQuery{Sort: store.TagsByPushed, N: 1})
	if err != nil {
		return err
	}
	for _, row := range tags.Rows {
		m, err := h.Store.Manifest(r.Context(), r.route.name, oci.Reference{Digest: row.Digest}, true)
		if err != nil {
			return err
		}
		d.Tag = row.Name
		if d.Readme, err = h.readmeOf(r, artifact{m.Raw, head.Facts.Annotations}); err != nil {
			return err
		}
	}
	v := h.view(w, r, "README · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "repository-readme", v)
}

// readmeData is what the README of a manifest shows.
type readmeData struct {
	Head   manifestHead
	Readme readme
}

func (h *Handler) readmePage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "readme")
	if err != nil {
		return err
	}
	if !head.hasTab("readme") {
		return fmt.Errorf("%w: the manifest has no README", errPath)
	}
	d := readmeData{Head: head}
	if d.Readme, err = h.readmeOf(r, artifact{head.Raw, head.Facts.Annotations}); err != nil {
		return err
	}
	v := h.view(w, r, "README · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "readme", v)
}
