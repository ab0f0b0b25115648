package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// An Event is one line of the answer to an administrative command. Exactly one field is set, or Done alone.
type Event struct {
	Repository    *RepositoryItem      `json:"repository,omitempty"`
	Tag           *TagItem             `json:"tag,omitempty"`
	Removed       *RemovedItem         `json:"removed,omitempty"`
	Removal       *RemovalItem         `json:"removal,omitempty"`
	Check         *store.CheckReport   `json:"check,omitempty"`
	Backup        *store.BackupReport  `json:"backup,omitempty"`
	Plan          *PlanItem            `json:"plan,omitempty"`
	Collected     *CollectedItem       `json:"collected,omitempty"`
	Run           *store.CollectionRun `json:"run,omitempty"`
	Move          *store.TagMove       `json:"move,omitempty"`
	DiskUse       *store.DiskUse       `json:"disk_use,omitempty"`
	RepositoryUse *RepositoryUseItem   `json:"repository_use,omitempty"`
	User          *UserItem            `json:"user,omitempty"`
	Grant         *GrantItem           `json:"grant,omitempty"`
	Token         *TokenItem           `json:"token,omitempty"`
	Audit         *store.AuditEntry    `json:"audit,omitempty"`
	Connect       *ConnectItem         `json:"connect,omitempty"`
	// Note is a sentence for people, such as why a command waits.
	Note     string      `json:"note,omitempty"`
	Progress *Progress   `json:"progress,omitempty"`
	Error    *EventError `json:"error,omitempty"`
	// Done is the last line of an answer that is whole.
	Done bool `json:"done,omitempty"`
}

// A RepositoryItem is a line of `cubby ls`.
type RepositoryItem struct {
	Name      string    `json:"name"`
	Tags      int64     `json:"tags"`
	Manifests int64     `json:"manifests"`
	Size      int64     `json:"size"` // bytes
	PushedAt  time.Time `json:"pushed_at"`
}

// A TagItem is a line of `cubby ls REPO`.
type TagItem struct {
	Name      string    `json:"name"`
	Digest    string    `json:"digest"`
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"` // bytes
	UpdatedAt time.Time `json:"updated_at"`
}

// A RemovedItem tells what `cubby rm` removed.
type RemovedItem struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`
}

// A RemovalItem sums up a removal of tags by pattern: what it would do, or with Done what it did.
type RemovalItem struct {
	Done   bool   `json:"done"`
	Tags   int64  `json:"tags"`
	Spared int64  `json:"spared"`         // that moved meanwhile
	Plan   string `json:"plan,omitempty"` // to be named when it is to be carried out
}

// The actions of a PlanItem.
const (
	PlanRemove = "remove"
	PlanKeep   = "keep"
)

// A PlanItem is a line of what a collection does, or a removal of tags.
type PlanItem struct {
	Action     string    `json:"action"`
	Kind       string    `json:"kind"` // "tag", "manifest" or "blob"
	Repository string    `json:"repository"`
	Tag        string    `json:"tag,omitempty"`
	Digest     string    `json:"digest"`
	Size       int64     `json:"size"`           // bytes
	Rule       string    `json:"rule,omitempty"` // that decided
	Why        string    `json:"why"`
	Until      time.Time `json:"until,omitzero"` // of what is kept
}

// A CollectedItem sums up a collection, or with DryRun what one would do.
type CollectedItem struct {
	DryRun    bool      `json:"dry_run"`
	Now       bool      `json:"now"` // keep times were ended
	Tags      int64     `json:"tags"`
	Manifests int64     `json:"manifests"`
	Blobs     int64     `json:"blobs"`
	Orphans   int64     `json:"orphans"`
	Spared    int64     `json:"spared"`
	Freed     int64     `json:"freed"` // bytes
	Kept      int64     `json:"kept"`  // bytes that stay for undo
	KeptUntil time.Time `json:"kept_until,omitzero"`
	Seconds   float64   `json:"seconds"`
}

// Progress counts bytes, or items.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// An EventError is why a command failed. Refused is set when the store would not, as opposed to could not.
type EventError struct {
	Message string `json:"message"`
	Refused bool   `json:"refused,omitempty"`
}

// An AdminFunc carries out an administrative command and sends what it has to tell.
type AdminFunc func(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error

// Refused makes an error of an AdminFunc a refusal: nothing was changed.
func Refused(err error) error { return &refusedError{err} }

type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// bodyMax bounds the parameters of a command in bytes.
const bodyMax = 4 << 20

// Admin returns the handler of the administrative commands; more are those that another package does, by pattern. It
// does no authorization: whoever can open the socket owns the data directory.
func Admin(st *store.Store, more map[string]AdminFunc) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, run AdminFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			send := eventWriter(w)
			// Parameters come as a form; the functions find them in the URL.
			r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
			err := r.ParseForm()
			if err == nil {
				r.URL.RawQuery = r.Form.Encode()
				err = run(r.Context(), st, r, send)
			}
			if err != nil {
				_, _, internal := translate(err)
				_, refused := errors.AsType[*refusedError](err)
				send(Event{Error: &EventError{Message: err.Error(), Refused: !internal || refused}})
				return
			}
			send(Event{Done: true})
		})
	}
	for pattern, run := range more {
		handle(pattern, run)
	}
	handle("GET /ls", adminList)
	handle("POST /rm", adminRemove)
	handle("POST /check", adminCheck)
	handle("POST /backup", adminBackup)
	handle("GET /history", adminHistory)
	handle("POST /undo", adminUndo)
	handle("POST /restore", adminRestore)
	handle("GET /du", adminDiskUse)
	for pattern, run := range accessCommands {
		handle(pattern, run)
	}
	profiles(mux)
	return mux
}

// profiles serves where time and memory go, in the form that go tool pprof reads.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// eventWriter returns what writes an event as a line and sends it at once.
func eventWriter(w http.ResponseWriter) func(Event) {
	w.Header().Set(headerContentType, "application/x-ndjson")
	control := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		// When the command has been interrupted there is nobody to tell; its context ends the work.
		_ = encoder.Encode(e)
		_ = control.Flush()
	}
}

// listPage is how many rows a listing reads at a time, so that no snapshot is held while a terminal scrolls.
const listPage = 500

func adminList(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	if !r.URL.Query().Has("repo") {
		for last := ""; ; {
			page, err := st.Repositories(ctx, last, listPage)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, v := range page {
				last = v.Name.String()
				send(Event{Repository: &RepositoryItem{Name: last, Tags: v.Tags, Manifests: v.Manifests, Size: v.Size, PushedAt: v.PushedAt}})
			}
		}
	}
	name, err := oci.ParseName(r.URL.Query().Get("repo"))
	if err != nil {
		return err
	}
	for last := ""; ; {
		page, err := st.TagInfos(ctx, name, last, listPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, v := range page {
			last = v.Name
			send(Event{Tag: &TagItem{Name: v.Name, Digest: v.Digest.String(), MediaType: v.MediaType, Size: v.Size, UpdatedAt: v.UpdatedAt}})
		}
	}
}

// adminRemove removes a tag or a manifest.
func adminRemove(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	query := r.URL.Query()
	name, err := oci.ParseName(query.Get("repo"))
	if err != nil {
		return err
	}
	by := AdminActor
	switch {
	case query.Has("tag"):
		tag, err := oci.ParseTag(query.Get("tag"))
		if err != nil {
			return err
		}
		if err := st.DeleteTag(ctx, name, tag, store.Condition{}, by); err != nil {
			return err
		}
		send(Event{Removed: &RemovedItem{Repository: name.String(), Tag: tag.String()}})
		return nil
	case query.Has("digest"):
		dgst, err := oci.ParseDigest(query.Get("digest"))
		if err != nil {
			return err
		}
		if err := st.DeleteManifest(ctx, name, dgst, store.Condition{}, by); err != nil {
			return err
		}
		send(Event{Removed: &RemovedItem{Repository: name.String(), Digest: dgst.String()}})
		return nil
	}
	return fmt.Errorf("%w: neither tag nor digest is given", errParameter)
}

// progressSender sends at most ten progress events a second.
func progressSender(send func(Event)) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) > 100*time.Millisecond || done == total {
			last = now
			send(Event{Progress: &Progress{Done: done, Total: total}})
		}
	}
}

func adminCheck(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	deep, err := strconv.ParseBool(r.URL.Query().Get("deep"))
	if err != nil {
		return fmt.Errorf("%w: deep: %w", errParameter, err)
	}
	report, err := st.Check(ctx, deep, progressSender(send))
	if err != nil {
		return err
	}
	send(Event{Check: &report})
	return nil
}

func adminBackup(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	report, err := st.Backup(ctx, r.URL.Query().Get("dir"), progressSender(send))
	if err != nil {
		return err
	}
	send(Event{Backup: &report})
	return nil
}
