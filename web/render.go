package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// policyCSP lets a page load our own files and nothing else; nothing inline runs or styles.
const policyCSP = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// fileCSP is for bytes that clients pushed: if a browser shows them in spite of all, they are nobody's origin.
const fileCSP = "sandbox; default-src 'none'"

func setSafety(h http.Header) {
	h.Set("Content-Security-Policy", policyCSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// templates holds a template of each page, with the layout around it. Each is parsed when its page is first asked for:
// who serves images and no pages has neither the time at the start nor the memory. A test parses them all.
var templates = func() map[string]func() *template.Template {
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic(err)
	}
	shared := sync.OnceValue(func() *template.Template {
		return template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts*.html"))
	})
	all := make(map[string]func() *template.Template)
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "layout" && !strings.HasPrefix(name, "parts") {
			all[name] = sync.OnceValue(func() *template.Template {
				return template.Must(template.Must(shared().Clone()).ParseFS(templateFiles, file))
			})
		}
	}
	return all
}()

// render makes a page and sends it. It is made whole first: an error in the middle becomes an error page.
func (h *Handler) render(w http.ResponseWriter, r *request, status int, name string, v *view) error {
	var b bytes.Buffer
	if err := templates[name]().ExecuteTemplate(&b, "layout", v); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	body := plain(b.Bytes())
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	// It depends on who looks and on their settings, and may have changed at the next look.
	header.Set("Cache-Control", "private, no-cache")
	if v.Secret {
		header.Set("Cache-Control", "no-store")
	}
	header.Set("Vary", "Cookie, Accept-Encoding")
	if status == http.StatusOK && r.Method != http.MethodPost {
		sum := sha256.Sum256(body)
		tag := `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		header.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	var gzipped []byte
	if acceptsGzip(r.Request) {
		gzipped = compress(body)
	}
	r.release()
	send(w, r.Request, status, body, gzipped)
	return nil
}

// send sends one of two forms of a body. That the client went away meanwhile concerns nobody.
func send(w http.ResponseWriter, r *http.Request, status int, body, gzipped []byte) {
	header := w.Header()
	if gzipped != nil && acceptsGzip(r) {
		header.Set("Content-Encoding", "gzip")
		body = gzipped
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.ReplaceAll(params, " ", "") != "q=0"
		}
	}
	return false
}

// plain replaces what makes a text look like another: control characters, and those that turn the direction of writing.
// A page has none of its own.
func plain(b []byte) []byte {
	if !bytes.ContainsFunc(b, isDeceiving) {
		return b
	}
	return bytes.Map(func(c rune) rune {
		if isDeceiving(c) {
			return utf8.RuneError
		}
		return c
	}, b)
}

func isDeceiving(c rune) bool {
	switch {
	case c == '\n' || c == '\t':
		return false
	case c < 0x20, c >= 0x7f && c < 0xa0, // control characters
		c == 0x061c, c == 0x200e, c == 0x200f, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069, // directions
		c >= 0x200b && c <= 0x200d, c == 0x2060, c == 0xfeff, // of no width
		c == 0x2028, c == 0x2029, // line ends of their own
		c >= 0xe0000 && c <= 0xe007f: // tags, which nothing shows
		return true
	}
	return false
}
