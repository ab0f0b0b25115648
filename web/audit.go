package web

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cubby/store"
)

// auditData is what the page of the audit log shows.
type auditData struct {
	Entries  []store.AuditEntry
	Filter   store.AuditFilter
	Since    string // as it was typed
	Problem  string // with that
	Actions  []store.AuditAction
	Filtered bool
	After    string
	Next     string
	Looked   time.Time // how far back was looked, when there is more to look at
	Link     func(key, value string) string
	CSV      string // path of the same as a file
}

// auditTextMax bounds a text of the filter in bytes: nothing longer is in the log.
const auditTextMax = 300

// auditFilter reads the filter of the log from a URL, and says what is wrong with the day. An action that there is not
// selects everything, as the form then shows.
func auditFilter(q url.Values) (f store.AuditFilter, since, problem string) {
	text := func(key string) string {
		s := strings.TrimSpace(q.Get(key))
		return s[:min(len(s), auditTextMax)]
	}
	f = store.AuditFilter{Action: store.AuditAction(text("action")), Who: text("who"), Part: text("q"), Address: text("address"), Token: text("token")}
	if !slices.Contains(store.AuditActions(), f.Action) {
		f.Action = ""
	}
	if since = text("since"); since != "" {
		at, err := time.ParseInLocation(time.DateOnly, since, time.Local)
		if err != nil {
			// What is no day cannot stand in the field: browsers drop it.
			return f, "", "A day is written like 2026-01-31."
		}
		f.Since = at
	}
	return f, since, ""
}

// searchAudit looks for a page of the log. One search at a time: it may look at tens of thousands of entries.
func (h *Handler) searchAudit(r *request, f store.AuditFilter, from string, n int) (store.AuditPage, error) {
	done, err := h.costly(r)
	if err != nil {
		return store.AuditPage{}, err
	}
	defer done()
	return h.Store.AuditSearch(r.Context(), f, from, n)
}

func (h *Handler) auditPage(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	d := auditData{After: q.Get("after"), Actions: store.AuditActions(), Link: linker(r.URL)}
	d.Filter, d.Since, d.Problem = auditFilter(q)
	d.Filtered = d.Filter != store.AuditFilter{}
	status := http.StatusOK
	if d.Problem != "" {
		status = http.StatusBadRequest
	} else {
		p, err := h.searchAudit(r, d.Filter, d.After, pageRows)
		if err != nil {
			return err
		}
		d.Entries, d.Next, d.Looked = p.Entries, p.Next, p.Looked
	}
	q.Del("after")
	d.CSV = "/-/admin/audit.csv"
	if query := q.Encode(); query != "" {
		d.CSV += "?" + query
	}
	return h.render(w, r, status, "audit", h.view(w, r, "Audit log", &d))
}

// auditChunk is how many entries of the file are in memory at a time.
const auditChunk = 500

// auditCSV sends what the filter selects as a file, a part at a time: no connection to the database waits for a client.
func (h *Handler) auditCSV(w http.ResponseWriter, r *request) error {
	f, _, problem := auditFilter(r.URL.Query())
	if problem != "" {
		return fmt.Errorf("%w: %s", errForm, problem)
	}
	p, err := h.searchAudit(r, f, "", auditChunk)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	header.Set("Content-Disposition", "attachment; filename=audit-"+h.now().Format(time.DateOnly)+".csv")
	header.Set("Content-Security-Policy", fileCSP)
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"time", "who", "token", "action", "repository", "reference", "detail", "address", "client"}) // Flush tells
	for {
		for _, e := range p.Entries {
			_ = out.Write(cells(e.At.UTC().Format(time.RFC3339), e.Who, e.Token, string(e.Action), e.Repository, e.Reference, e.Detail, e.Address, e.Client))
		}
		out.Flush()
		if out.Error() != nil {
			return nil // the client went away
		}
		if p.Next == "" {
			return nil
		}
		if p, err = h.searchAudit(r, f, p.Next, auditChunk); err != nil {
			h.Log.Error("audit log not sent to its end", "err", err)
			// What was sent cannot become an error, and must not look whole.
			panic(http.ErrAbortHandler)
		}
	}
}

// cells keeps a spreadsheet from running what strangers put into the log: a text that begins like a formula gets a sign in
// front that makes it one.
func cells(texts ...string) []string {
	for i, s := range texts {
		if s != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(s)[0]) {
			texts[i] = "'" + s
		}
	}
	return texts
}
