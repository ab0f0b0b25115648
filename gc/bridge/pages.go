package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"cubby/gc"
	"cubby/server"
	"cubby/store"
	"cubby/store/oci"
	"cubby/web"

	"github.com/opencontainers/go-digest"
)

// Pages makes the plans of package gc those of the pages.
type Pages struct{ *gc.Collector }

var _ web.Collector = Pages{}

// Plan makes the plan that Collect would carry out.
func (c Pages) Plan(ctx context.Context, now bool) (web.Plan, error) {
	plan, _, err := c.Run(ctx, collectRequest(now, store.Actor{}, gc.Request{DryRun: true}))
	if err != nil {
		return web.Plan{}, refusal(err)
	}
	return planOf(plan), nil
}

// Collect carries out a collection if its plan is the one of the fingerprint, and returns it with what was done.
func (c Pages) Collect(ctx context.Context, now bool, fingerprint string, by store.Actor, progress func(done, total int)) (web.Plan, error) {
	agree := func(p *gc.Plan) error {
		if p.Fingerprint() != fingerprint {
			return web.ErrPlanChanged
		}
		return nil
	}
	plan, result, err := c.Run(ctx, collectRequest(now, by, gc.Request{Progress: progress, Agree: agree}))
	if err != nil {
		return web.Plan{}, refusal(err)
	}
	p := planOf(plan)
	p.Tags, p.Manifests, p.Blobs, p.Frees = result.Tags, result.Manifests, result.Blobs, result.Bytes
	return p, nil
}

func collectRequest(now bool, by store.Actor, q gc.Request) gc.Request {
	q.Cause = "page, " + by.Name
	if now {
		q.Cause += " --now"
		q.End = func(oci.Name) bool { return true }
	}
	return q
}

// wholeRepository selects what `cubby rm REPO` does.
func wholeRepository(name oci.Name) (gc.Selection, error) {
	return gc.ParseSelection(url.Values{"repositories": {name.String()}, "tags": {"*"}, "subjects": {"true"}})
}

// PlanRemoval makes the plan of removing all tags of a repository.
func (c Pages) PlanRemoval(ctx context.Context, name oci.Name) (p web.Plan, err error) {
	selection, err := wholeRepository(name)
	if err != nil {
		return p, err
	}
	err = c.Collector.Remove(ctx, selection, store.Actor{}, func(m *gc.Removal) error {
		p = web.Plan{Tags: int64(len(m.Tags)), Fingerprint: m.Fingerprint(), Lines: append(tagLines(true, m.Tags), tagLines(false, m.KeptTags)...)}
		return errPreview
	}, nil)
	if errors.Is(err, errPreview) {
		err = nil
	}
	return p, refusal(err)
}

// Remove removes all tags of a repository, if they are still those of the fingerprint.
func (c Pages) Remove(ctx context.Context, name oci.Name, fingerprint string, by store.Actor) (removed int64, err error) {
	selection, err := wholeRepository(name)
	if err != nil {
		return 0, err
	}
	err = c.Collector.Remove(ctx, selection, by, func(m *gc.Removal) error {
		if m.Fingerprint() != fingerprint {
			return web.ErrPlanChanged
		}
		return nil
	}, func(_ gc.TagItem, gone bool) {
		if gone {
			removed++
		}
	})
	return removed, refusal(err)
}

// refusal makes a refusal of package gc one of the pages.
func refusal(err error) error {
	if errors.Is(err, gc.ErrRefused) {
		return fmt.Errorf("%w: %w", web.ErrRefused, err)
	}
	return err
}

func tagLines(remove bool, tags []gc.TagItem) (lines []web.PlanLine) {
	for _, t := range tags {
		lines = append(lines, web.PlanLine{Remove: remove, Kind: "tag", Repository: t.Repository, Tag: t.Tag, Digest: t.Digest, Rule: t.Rule, Why: t.Why})
	}
	return lines
}

// planOf returns a plan in the order in which `cubby gc --dry-run` prints it.
func planOf(plan *gc.Plan) web.Plan {
	p := web.Plan{
		Tags: int64(len(plan.Tags)), Manifests: int64(len(plan.Manifests)), Blobs: int64(len(plan.Blobs)),
		Frees: plan.Frees, Kept: plan.KeptBytes, KeptUntil: plan.KeptUntil, Fingerprint: plan.Fingerprint(),
	}
	sendPlan(plan, true, func(e server.Event) {
		item := e.Plan
		name, _ := oci.ParseName(item.Repository) // it was one
		p.Lines = append(p.Lines, web.PlanLine{
			Remove: item.Action == server.PlanRemove, Kind: item.Kind, Repository: name, Tag: item.Tag, Digest: digest.Digest(item.Digest),
			Size: item.Size, Rule: item.Rule, Why: item.Why, Until: item.Until,
		})
	})
	return p
}
