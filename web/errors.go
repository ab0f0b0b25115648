package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
	"cubby/web/layer"
	"cubby/web/module"
)

// table says what status an error has, and how its page is called. The first row that fits counts.
var table = []struct {
	is     error
	status int
	title  string
}{
	{oci.ErrNameInvalid, http.StatusBadRequest, "Not a repository's name"},
	{oci.ErrTagInvalid, http.StatusBadRequest, "Not a tag"},
	{oci.ErrDigestInvalid, http.StatusBadRequest, "Not a digest"},
	{oci.ErrGlobInvalid, http.StatusBadRequest, "Not a pattern"},
	{store.ErrCursor, http.StatusBadRequest, "No such part of the list"},
	{store.ErrNameUnknown, http.StatusNotFound, "No such repository"},
	{store.ErrManifestUnknown, http.StatusNotFound, "Not in this repository"},
	{store.ErrBlobUnknown, http.StatusNotFound, "No such blob"},
	{store.ErrHistoryUnknown, http.StatusNotFound, "Not in the history"},
	{store.ErrContentDeleted, http.StatusConflict, "The content is gone"},
	{store.ErrCollectionUnknown, http.StatusNotFound, "No such collection"},
	{store.ErrInUse, http.StatusConflict, "Still in use"},
	{store.ErrImmutable, http.StatusConflict, "This tag must not move"},
	{store.ErrPrecondition, http.StatusConflict, "It has changed meanwhile"},
	{store.ErrOverwrite, http.StatusForbidden, "Not allowed"},
	{store.ErrFull, http.StatusInsufficientStorage, "The disk is full"},
	{store.ErrReadOnly, http.StatusConflict, "Nothing can be changed"},
	{ErrPlanChanged, http.StatusConflict, "It has changed meanwhile"},
	{ErrRefused, http.StatusConflict, "Refused"},
	{errWaiting, http.StatusConflict, "A collection runs"},
	{errRunning, http.StatusConflict, "A collection runs already"},
	{layer.ErrPathUnknown, http.StatusNotFound, "No such file"},
	{layer.ErrNotFile, http.StatusBadRequest, "Not a file"},
	{errUnreadable, http.StatusUnprocessableEntity, "Not readable"},
	{errTurns, http.StatusTooManyRequests, "Wait a moment"},
	{store.ErrUserUnknown, http.StatusNotFound, "No such user"},
	{store.ErrUserInvalid, http.StatusBadRequest, "Not a user's name"},
	{store.ErrTokenUnknown, http.StatusNotFound, "No such access token"},
	{store.ErrGrantUnknown, http.StatusConflict, "It has changed meanwhile"},
	{store.ErrActionsInvalid, http.StatusBadRequest, "The form cannot be read"},
	{errLastAdmin, http.StatusConflict, "The last administrator"},
	{errNoUser, http.StatusConflict, "No access tokens"},
	{auth.ErrUnauthorized, http.StatusUnauthorized, "Log in"},
	{auth.ErrCredentials, http.StatusUnauthorized, "Log in"},
	{auth.ErrSlowDown, http.StatusTooManyRequests, "Too many failed logins"},
	{auth.ErrBusy, http.StatusServiceUnavailable, "Busy"},
	{auth.ErrDenied, http.StatusForbidden, "Not allowed"},
	{auth.ErrCrossOrigin, http.StatusForbidden, "Refused"},
	{module.ErrFileUnknown, http.StatusNotFound, "Not in this module package"},
	{module.ErrNotRead, http.StatusNotFound, "Not shown"},
	{module.ErrNotZip, http.StatusNotFound, "Not shown"},
	{module.ErrDamaged, http.StatusNotFound, "Not shown"},
	{module.ErrLimit, http.StatusNotFound, "Not shown"},
	{errModule, http.StatusNotFound, "Not shown"},
	{errPath, http.StatusNotFound, "No such page"},
	{errMethod, http.StatusMethodNotAllowed, "Not possible here"},
	{errConfirm, http.StatusBadRequest, "Not confirmed"},
	{errForm, http.StatusBadRequest, "The form cannot be read"},
	{context.Canceled, http.StatusRequestTimeout, "Cancelled"},
}

// errorData is what the page of an error shows.
type errorData struct {
	Status  int
	Title   string
	Text    string
	Near    []oci.Name
	Search  string // for what to search instead
	Request string // to find it in the log
	Back    string
	History string // path, of a tag that was here
}

// errorPage answers a request with an error. What a visitor cannot help is hidden, and logged with a number to tell us.
func (h *Handler) errorPage(w http.ResponseWriter, r *request, err error) {
	d := errorData{Status: http.StatusInternalServerError, Title: "Something went wrong", Back: "/"}
	for _, row := range table {
		if errors.Is(err, row.is) {
			d.Status, d.Title, d.Text = row.status, row.title, sentence(err)
			break
		}
	}
	if errors.Is(err, store.ErrPrecondition) {
		d.Text = "It is not what was shown any more. Nothing was changed; look again."
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		d.Status, d.Title, d.Text = http.StatusRequestEntityTooLarge, "Too much at once", "The form is larger than this page takes."
	}
	header := w.Header()
	if slow, ok := errors.AsType[*auth.SlowDownError](err); ok {
		header.Set("Retry-After", formatSeconds(slow.After))
	}
	if errors.Is(err, errTurns) {
		header.Set("Retry-After", refreshIndexing)
	}
	switch {
	case d.Status == http.StatusUnauthorized && (r.Method == http.MethodGet || r.Method == http.MethodHead) && h.canHelp(r):
		path := "/-/login"
		if uri := r.URL.RequestURI(); len(uri) <= nextMax {
			path += "?next=" + url.QueryEscape(uri)
		}
		http.Redirect(w, r.Request, path, http.StatusSeeOther)
		return
	case d.Status == http.StatusInternalServerError:
		d.Request = strings.ToLower(rand.Text()[:12])
		h.Log.Error("page failed", "method", r.Method, "path", r.URL.Path, "request", d.Request, "err", err)
		d.Text = "The server could not make this page. It has logged why."
	}
	if r.who != nil && r.who.Sees(r.route.name) && r.route.name != (oci.Name{}) {
		d.Back = repositoryPath(r.route.name)
	}
	h.suggest(r, err, &d)
	for _, name := range []string{"Content-Disposition", "Content-Encoding", "Content-Length", "ETag", "Last-Modified"} {
		header.Del(name) // of what could not be sent
	}
	header.Set("Content-Security-Policy", policyCSP)
	v := h.view(w, r, d.Title, d)
	if renderErr := h.render(w, r, d.Status, "error", v); renderErr != nil {
		h.Log.Error("error page failed", "path", r.URL.Path, "err", renderErr)
		http.Error(w, d.Title, d.Status)
	}
}

// nextMax bounds the bytes of the way back after logging in: it stands in a header.
const nextMax = 1024

// canHelp reports whether logging in could help: somebody can, and the visitor has not.
func (h *Handler) canHelp(r *request) bool {
	return !h.Guard.Open() && (r.who == nil || !r.who.Known())
}

// suggest adds names that are spelled almost like the one that is not there.
func (h *Handler) suggest(r *request, err error, d *errorData) {
	if r.who == nil {
		return
	}
	if unknown, ok := errors.AsType[*store.NameUnknownError](err); ok {
		near, err := h.Store.Nearest(r.Context(), unknown.Name, r.who.Sees)
		if err == nil {
			d.Near = near
		}
		d.Search = unknown.Name.String()
		d.Back = "/"
		return
	}
	if tag := r.route.ref.Tag; errors.Is(err, store.ErrManifestUnknown) && tag != (oci.Tag{}) && r.who.Sees(r.route.name) {
		if moves, err := h.Store.History(r.Context(), r.route.name, tag, 0, 1); err == nil && len(moves) > 0 {
			d.History = repositoryPath(r.route.name) + "/-/history/" + tag.String()
		}
	}
	if errors.Is(err, oci.ErrNameInvalid) || errors.Is(err, errPath) {
		d.Back = "/"
		path := strings.ToLower(strings.Trim(r.URL.Path, "/"))
		if name, err := oci.ParseName(path); err == nil && !strings.HasPrefix(path, "-/") {
			if _, err := h.Store.RepositoryUse(r.Context(), name); err == nil && r.who.Sees(name) {
				d.Near = []oci.Name{name}
			}
		}
	}
}

// sentence returns an error as a sentence.
func sentence(err error) string {
	s := err.Error()
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}
