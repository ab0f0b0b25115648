package web

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cubby/store"
	"cubby/store/oci"
	"cubby/web/layer"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// textMax is how many bytes of a text a page shows, hexMax of anything else.
const (
	textMax = 1 << 20
	hexMax  = 4 << 10
)

// rawData is what the page of a manifest's or a blob's bytes shows.
type rawData struct {
	Head      *manifestHead // of a manifest
	Name      oci.Name
	Parts     []namePart
	Digest    digest.Digest
	Size      int64
	MediaType string
	Lines     []line
	Hex       string
	Indented  bool // the lines are not the bytes
	Cut       bool // there is more than is shown
	Download  string
	Command   string
	Inside    string // path of the files in it, if it is an archive
}

// A line is a line of text, in pieces, some of which are links.
type line struct {
	Number int
	Pieces []piece
}

type piece struct{ Text, Link string }

func (h *Handler) rawPage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "raw")
	if err != nil {
		return err
	}
	manifests := make(map[string]bool)
	if m, err := oci.ParseManifest(head.MediaType, head.Raw); err == nil {
		for _, ref := range m.References {
			manifests[ref.Digest.String()] = ref.Manifest
		}
		manifests[m.Subject.String()] = true
	}
	d := rawData{
		Head: &head, Name: r.route.name, Parts: head.Parts, Digest: head.Digest, Size: head.Size, MediaType: head.MediaType,
		Download: head.ByDigest + "/-/raw/download",
	}
	d.show(head.Raw, func(dgst digest.Digest) string {
		if manifests[dgst.String()] {
			if _, here := head.Children[dgst]; !here && dgst != head.Subject {
				return "/-/search?q=" + dgst.String() // it may be in another repository
			}
			return digestPath(r.route.name, dgst)
		}
		return blobPath(r.route.name, dgst)
	})
	v := h.view(w, r, "Raw · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	t := target{v.Host, v.HTTPS, r.route.name, head.Tag, head.Digest}
	d.Command = "crane manifest" + t.plain("--insecure", true) + " " + t.ref() + " | jq ."
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "raw", v)
}

func (h *Handler) blobPage(w http.ResponseWriter, r *request) error {
	b, err := h.Store.OpenBlob(r.Context(), r.route.name, r.route.digest)
	if err != nil {
		return err
	}
	defer b.Close()
	head, err := io.ReadAll(io.LimitReader(b, textMax))
	if err != nil {
		return err
	}
	d := rawData{
		Name: r.route.name, Parts: nameParts(r.route.name), Digest: r.route.digest, Size: b.Size,
		Download: blobPath(r.route.name, r.route.digest) + "/download", Cut: b.Size > int64(len(head)),
	}
	if d.Cut {
		head = wholeRunes(head)
	}
	if format, err := layer.Detect(b, b.Size); err == nil && format != layer.FormatUnknown {
		d.Inside = blobPath(r.route.name, r.route.digest) + "/files"
	}
	d.show(head, func(dgst digest.Digest) string { return "/-/search?q=" + dgst.String() })
	v := h.view(w, r, "Blob "+shortDigest(r.route.digest)+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "raw", v)
}

// wholeRunes cuts the rune that a limit has cut.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// show turns bytes into lines if they are a text, else into the hexadecimal dump of their beginning.
func (d *rawData) show(b []byte, link func(digest.Digest) string) {
	if len(b) == 0 {
		return
	}
	if !isText(b) {
		d.Cut = d.Cut || len(b) > hexMax
		d.Hex = hex.Dump(b[:min(len(b), hexMax)])
		return
	}
	text := string(b)
	if indented := indent(text); indented != text {
		text, d.Indented = indented, true
	}
	text = strings.TrimSuffix(text, "\n")
	for i, s := range strings.Split(text, "\n") {
		if i == linesMax {
			d.Cut = true
			break
		}
		d.Lines = append(d.Lines, line{i + 1, pieces(strings.TrimSuffix(s, "\r"), link)})
	}
}

// linesMax bounds the lines of a page.
const linesMax = 20_000

var digestForm = regexp.MustCompile(`sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}`)

func pieces(s string, link func(digest.Digest) string) (all []piece) {
	for {
		at := digestForm.FindStringIndex(s)
		if at == nil {
			return append(all, piece{Text: s})
		}
		dgst := digest.Digest(s[at[0]:at[1]])
		all = append(all, piece{Text: s[:at[0]]}, piece{dgst.String(), link(dgst)})
		s = s[at[1]:]
	}
}

func isText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(c rune) bool { return c < 0x20 && c != '\n' && c != '\r' && c != '\t' })
}

// indent lays out JSON that stands on one line; anything else stays as it is, and so does what would become too long.
func indent(s string) string {
	trimmed := strings.TrimSpace(s)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' || strings.Contains(trimmed, "\n") || indentedSize(trimmed) > indentMax {
		return s
	}
	var b bytes.Buffer
	if json.Indent(&b, []byte(trimmed), "", "  ") != nil {
		return s
	}
	return b.String()
}

// indentMax bounds the bytes of JSON that is laid out: each level of nesting moves every line of it.
const indentMax = 2 * textMax

// indentedSize returns about how many bytes JSON has when it is laid out, before that is done.
func indentedSize(s string) int {
	size, depth := len(s), 0
	inString, escaped := false, false
	for _, c := range []byte(s) {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
			size += 1 + 2*depth
		case c == '}' || c == ']':
			depth--
			size += 1 + 2*max(depth, 0)
		case c == ',':
			size += 1 + 2*max(depth, 0)
		}
	}
	return size
}

// readPresent returns a blob that is here. Its size was checked.
func (h *Handler) readPresent(b store.PresentBlob) ([]byte, error) {
	f, err := h.Store.OpenPresent(b)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, b.Size))
}

// readText returns a blob of at most n bytes if it is text that is here, else "".
func (h *Handler) readText(r *request, dgst digest.Digest, n int64) (string, error) {
	b, err := h.Store.OpenBlob(r.Context(), r.route.name, dgst)
	if errors.Is(err, store.ErrBlobUnknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer b.Close()
	if b.Size > n {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(b, n))
	if err != nil || !isText(text) {
		return "", err
	}
	return string(text), nil
}

// downloadManifest sends exactly the bytes of a manifest.
func (h *Handler) downloadManifest(w http.ResponseWriter, r *request) error {
	m, err := h.Store.Manifest(r.Context(), r.route.name, r.route.ref, true)
	if err != nil {
		return err
	}
	attach(w.Header(), shortDigest(m.Digest)+".json", m.Digest)
	http.ServeContent(w, r.Request, "", time.Time{}, bytes.NewReader(m.Raw))
	return nil
}

func (h *Handler) downloadBlob(w http.ResponseWriter, r *request) error {
	return h.sendBlob(w, r, r.route.digest.Encoded())
}

// downloadFile sends a file of an artifact under the name that its manifest gives it.
func (h *Handler) downloadFile(w http.ResponseWriter, r *request) error {
	m, err := h.Store.Manifest(r.Context(), r.route.name, r.route.ref, true)
	if err != nil {
		return err
	}
	ds := readDescriptors(m.Raw)
	for _, l := range append(ds.Layers, ds.Blobs...) {
		if l.Digest == r.route.digest {
			return h.sendBlob(w, r, fileName(l.Annotations[v1.AnnotationTitle], r.route.digest))
		}
	}
	return fmt.Errorf("%w: the manifest has no file %s", store.ErrBlobUnknown, r.route.digest)
}

// fileName returns the last part of a title that is fit to be a file's name, else the digest.
func fileName(title string, dgst digest.Digest) string {
	name := path.Base(strings.ReplaceAll(title, "\\", "/"))
	name = strings.Map(func(c rune) rune {
		if isDeceiving(c) || c == utf8.RuneError || strings.ContainsRune("\n\t\"<>|:*?/\\", c) {
			return '_'
		}
		return c
	}, name)
	if name = strings.TrimLeft(name, "."); name == "" || name == "_" || len(name) > 200 {
		return dgst.Encoded()
	}
	return name
}

func (h *Handler) sendBlob(w http.ResponseWriter, r *request, name string) error {
	b, err := h.Store.OpenBlob(r.Context(), r.route.name, r.route.digest)
	if err != nil {
		return err
	}
	defer b.Close()
	attach(w.Header(), name, b.Digest)
	// The file itself, so that the kernel can send it.
	http.ServeContent(w, r.Request, "", time.Time{}, b.File)
	return nil
}

// attach makes an answer a file to be kept, which no browser shows in our name.
func attach(header http.Header, name string, dgst digest.Digest) {
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	header.Set("Content-Security-Policy", fileCSP)
	header.Set("Cache-Control", "private, no-cache")
	header.Set("ETag", strconv.Quote(dgst.String()))
}
