package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cubby/store"
	"cubby/store/oci"
)

// A RepositoryUseItem is a line of `cubby du`.
type RepositoryUseItem struct {
	Name     string `json:"name"`
	Stored   int64  `json:"stored"`    // bytes
	OnlyHere int64  `json:"only_here"` // bytes that no other repository has
}

// AdminActor is whom the history names for what an administrative command does.
var AdminActor = store.Actor{Name: "admin", Address: "socket"}

// tagParameters returns the repository and the tag of a command.
func tagParameters(r *http.Request) (name oci.Name, tag oci.Tag, err error) {
	if name, err = oci.ParseName(r.URL.Query().Get("repo")); err != nil {
		return name, tag, err
	}
	tag, err = oci.ParseTag(r.URL.Query().Get("tag"))
	return name, tag, err
}

func adminHistory(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	name, err := oci.ParseName(r.URL.Query().Get("repo"))
	if err != nil {
		return err
	}
	var tag oci.Tag // zero is all of them
	if r.URL.Query().Has("tag") {
		if tag, err = oci.ParseTag(r.URL.Query().Get("tag")); err != nil {
			return err
		}
	}
	for before := int64(0); ; {
		page, err := st.History(ctx, name, tag, before, listPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			before = m.ID
			send(Event{Move: &m})
		}
	}
}

func adminUndo(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	name, tag, err := tagParameters(r)
	if err != nil {
		return err
	}
	m, err := st.Undo(ctx, name, tag, AdminActor)
	if errors.Is(err, store.ErrContentDeleted) {
		return fmt.Errorf("%w; an older entry of `cubby history %s:%s` may still be there for `cubby restore`", err, name, tag)
	}
	if err != nil {
		return err
	}
	send(Event{Move: &m})
	return nil
}

func adminRestore(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	name, tag, err := tagParameters(r)
	if err != nil {
		return err
	}
	target, err := targetParameter(r)
	if err != nil {
		return err
	}
	m, err := st.Restore(ctx, name, tag, target, false, AdminActor)
	if err != nil {
		return err
	}
	send(Event{Move: &m})
	return nil
}

func targetParameter(r *http.Request) (store.Target, error) {
	if !r.URL.Query().Has("at") {
		return store.ParseTarget(r.URL.Query().Get("to"))
	}
	at, err := time.Parse(time.RFC3339, r.URL.Query().Get("at"))
	if err != nil {
		return store.Target{}, fmt.Errorf("%w: at: %w", errParameter, err)
	}
	return store.TargetAt(at), nil
}

func adminDiskUse(ctx context.Context, st *store.Store, r *http.Request, send func(Event)) error {
	item := func(u store.RepositoryUse) {
		send(Event{RepositoryUse: &RepositoryUseItem{Name: u.Name.String(), Stored: u.Stored, OnlyHere: u.OnlyHere}})
	}
	if r.URL.Query().Has("repo") {
		name, err := oci.ParseName(r.URL.Query().Get("repo"))
		if err != nil {
			return err
		}
		u, err := st.RepositoryUse(ctx, name)
		if err != nil {
			return err
		}
		item(u)
		return nil
	}
	total, err := st.DiskUse(ctx)
	if err != nil {
		return err
	}
	send(Event{DiskUse: &total})
	for last := ""; ; {
		page, err := st.RepositoryUses(ctx, last, listPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, u := range page {
			last = u.Name.String()
			item(u)
		}
	}
}
