// Package bridge hands what package gc does to the administrative commands and to the pages: none of the three knows
// another.
package bridge

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cubby/gc"
	"cubby/gc/policy"
	"cubby/server"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// Commands returns the administrative commands that package gc carries out, by method and path. problem tells what a
// person should know about the rules, and may be nil.
func Commands(collector *gc.Collector, problem func() string) map[string]server.AdminFunc {
	// with tells the problem, if there is one, and makes refusals of package gc the server's.
	with := func(run server.AdminFunc) server.AdminFunc {
		return func(ctx context.Context, st *store.Store, r *http.Request, send func(server.Event)) error {
			err := run(ctx, st, r, send)
			if problem != nil && problem() != "" {
				send(server.Event{Note: problem()})
			}
			if errors.Is(err, gc.ErrRefused) {
				return server.Refused(err)
			}
			return err
		}
	}
	return map[string]server.AdminFunc{
		"POST /gc": with(func(ctx context.Context, _ *store.Store, r *http.Request, send func(server.Event)) error {
			return collect(ctx, collector, r.URL.Query(), send)
		}),
		"POST /rm/matching": with(func(ctx context.Context, st *store.Store, r *http.Request, send func(server.Event)) error {
			return removeMatching(ctx, st, collector, r.URL.Query(), send)
		}),
		"GET /gc/log": func(ctx context.Context, st *store.Store, _ *http.Request, send func(server.Event)) error {
			runs, err := st.Collections(ctx, 100)
			for _, run := range runs {
				send(server.Event{Run: &run})
			}
			return err
		},
	}
}

// collect carries out `cubby gc`.
func collect(ctx context.Context, collector *gc.Collector, query url.Values, send func(server.Event)) error {
	dryRun, force := query.Get("dry-run") == "true", query.Get("force") == "true"
	cause := []string{"command"}
	for _, flag := range []string{"now", "force"} {
		if query.Get(flag) == "true" {
			cause = append(cause, "--"+flag)
		}
	}
	q := gc.Request{
		DryRun: dryRun, Force: force,
		Waiting: func() { send(server.Event{Note: "another collection runs; waiting for it"}) },
		Planned: func(p *gc.Plan) { sendPlan(p, dryRun, send) },
		Progress: func(done, total int) {
			send(server.Event{Progress: &server.Progress{Done: int64(done), Total: int64(total)}})
		},
	}
	if repo := query.Get("repo"); repo != "" {
		var err error
		if q.Repository, err = oci.ParseName(repo); err != nil {
			return err
		}
		if _, err := collector.Store.RepositoryUse(ctx, q.Repository); err != nil {
			return err
		}
		cause = append(cause, repo)
	}
	q.Cause = strings.Join(cause, " ")
	if query.Get("now") == "true" {
		q.End = func(oci.Name) bool { return true }
	}
	if query.Has("config") {
		if !dryRun {
			return server.Refused(errors.New("rules can only be tried in a dry run"))
		}
		p, warnings, err := policy.Parse([]byte(query.Get("config")))
		if err != nil {
			return server.Refused(err)
		}
		for _, w := range warnings {
			send(server.Event{Note: "warning: " + w})
		}
		q.Policy = p
	}
	began := time.Now()
	plan, result, err := collector.Run(ctx, q)
	if err != nil {
		return err
	}
	c := server.CollectedItem{
		DryRun: dryRun, Now: q.End != nil, Tags: result.Tags, Manifests: result.Manifests, Blobs: result.Blobs, Orphans: result.Orphans, Spared: result.Spared,
		Freed: result.Bytes, Kept: plan.KeptBytes, KeptUntil: plan.KeptUntil, Seconds: time.Since(began).Seconds(),
	}
	if dryRun {
		c.Tags, c.Manifests, c.Blobs, c.Freed = int64(len(plan.Tags)), int64(len(plan.Manifests)), int64(len(plan.Blobs)), plan.Frees
	}
	send(server.Event{Collected: &c})
	return nil
}

// sendPlan sends what goes and what stays for a while; keptTags adds the tags that rules keep.
func sendPlan(p *gc.Plan, keptTags bool, send func(server.Event)) {
	item := func(action, kind string, name oci.Name, dgst digest.Digest, size int64, why string, until time.Time) {
		send(server.Event{Plan: &server.PlanItem{
			Action: action, Kind: kind, Repository: name.String(), Digest: dgst.String(), Size: size, Why: why, Until: until,
		}})
	}
	sendTags(server.PlanRemove, p.Tags, send)
	if keptTags {
		sendTags(server.PlanKeep, p.KeptTags, send)
	}
	for _, m := range p.Manifests {
		item(server.PlanRemove, "manifest", m.Repository, m.Digest, m.Size, m.Why, time.Time{})
	}
	for _, b := range p.Blobs {
		item(server.PlanRemove, "blob", b.Repository, b.Digest, b.Size, b.Why, time.Time{})
	}
	for _, k := range p.Kept {
		item(server.PlanKeep, "manifest", k.Repository, k.Digest, k.Size, k.Why, k.Until)
	}
}

func sendTags(action string, tags []gc.TagItem, send func(server.Event)) {
	for _, t := range tags {
		send(server.Event{Plan: &server.PlanItem{
			Action: action, Kind: "tag", Repository: t.Repository.String(), Tag: t.Tag, Digest: t.Digest.String(), Rule: t.Rule, Why: t.Why,
		}})
	}
}

// removeMatching removes tags by pattern. With dry-run it sends the plan, with the fingerprint that the removal asks
// for: what was shown is what goes.
func removeMatching(ctx context.Context, st *store.Store, collector *gc.Collector, query url.Values, send func(server.Event)) error {
	selection, err := gc.ParseSelection(query)
	if err != nil {
		return server.Refused(err)
	}
	if repo := query.Get("repositories"); !oci.IsGlob(repo) {
		name, err := oci.ParseName(repo)
		if err != nil {
			return err
		}
		if _, err := st.RepositoryUse(ctx, name); err != nil {
			return err
		}
	}
	summary := server.RemovalItem{Done: true}
	err = collector.Remove(ctx, selection, server.AdminActor, func(m *gc.Removal) error {
		switch {
		case query.Get("dry-run") == "true":
			sendTags(server.PlanRemove, m.Tags, send)
			sendTags(server.PlanKeep, m.KeptTags, send)
			summary = server.RemovalItem{Tags: int64(len(m.Tags)), Plan: m.Fingerprint()}
			return errPreview
		case query.Get("plan") != m.Fingerprint():
			return server.Refused(errors.New("the tags are not those that were shown any more; look again"))
		}
		return nil
	}, func(t gc.TagItem, gone bool) {
		if !gone {
			summary.Spared++
			return
		}
		summary.Tags++
		send(server.Event{Removed: &server.RemovedItem{Repository: t.Repository.String(), Tag: t.Tag}})
	})
	if err != nil && !errors.Is(err, errPreview) {
		return err
	}
	send(server.Event{Removal: &summary})
	return nil
}

// errPreview ends a removal that was only to be shown.
var errPreview = errors.New("preview")
