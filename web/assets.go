package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/cubby.css static/cubby.js static/icon.svg
var staticFiles embed.FS

// An assetFile is served under a name that its content decides, so that a browser may keep it for good.
type assetFile struct {
	mediaType string
	plain     []byte
	gzipped   []byte
}

type assets struct {
	byName map[string]assetFile // by the last part of its path
	paths  map[string]string    // css, js, svg → path
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// embedded returns the files of the program, compressed.
func embedded() *assets {
	a := &assets{byName: make(map[string]assetFile), paths: make(map[string]string)}
	files, err := fs.Glob(staticFiles, "static/*")
	for _, file := range files {
		var content []byte
		if content, err = staticFiles.ReadFile(file); err != nil {
			break
		}
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:8]) + path.Ext(file)
		a.byName[name] = assetFile{assetTypes[path.Ext(file)], content, compress(content)}
		a.paths[strings.TrimPrefix(path.Ext(file), ".")] = "/-/assets/" + name
	}
	if err != nil {
		panic("files that are part of the program cannot be read: " + err.Error())
	}
	return a
}

// compressors are kept because a new one takes most of a megabyte.
var compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func compress(b []byte) []byte {
	var out bytes.Buffer
	z := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	z.Reset(&out)
	// Neither fails: a buffer takes everything.
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func (h *Handler) asset(w http.ResponseWriter, r *request) error {
	f, ok := h.assets().byName[r.route.arg]
	if !ok {
		return errPath
	}
	return h.sendAsset(w, r, f, "public, max-age=31536000, immutable")
}

func (h *Handler) icon(w http.ResponseWriter, r *request) error {
	return h.sendAsset(w, r, h.assets().byName[path.Base(h.assets().paths["svg"])], "public, max-age=86400")
}

func (h *Handler) sendAsset(w http.ResponseWriter, r *request, f assetFile, cache string) error {
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Type", f.mediaType)
	send(w, r.Request, http.StatusOK, f.plain, f.gzipped)
	return nil
}

// robots asks search engines to stay away: pages are many, and what a registry holds is its owner's business.
func (h *Handler) robots(w http.ResponseWriter, r *request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("User-agent: *\nDisallow: /\n"))
	return err
}
