package gc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cubby/store"
)

// A Result is what a collection removed.
type Result struct {
	Tags, Manifests, Blobs, Repositories int64
	Orphans                              int64 // files that no row claimed
	Bytes                                int64 // freed on disk
	Spared                               int64 // items that came back to life since the plan was made
}

// batchMax bounds the items of one transaction; the store also stops at its time limit.
const batchMax = 256

// Execute removes what the plan lists, in small transactions between those of clients, and checks each item again. A
// failure stops it: what was removed by then was garbage. progress is told how many items are done; it may be nil.
func (p *Plan) Execute(ctx context.Context, st *store.Store, progress func(done, total int)) (Result, error) {
	var r Result
	if len(p.Disagreements) > 0 {
		return r, fmt.Errorf("%w: the reference counts and the references disagree, which is a bug: %s; see cubby check",
			ErrRefused, strings.Join(p.Disagreements[:min(len(p.Disagreements), 3)], "; "))
	}
	for _, t := range p.Tags {
		if t.Why == "" {
			return r, fmt.Errorf("%w: no reason is recorded for %s:%s", ErrRefused, t.Repository, t.Tag)
		}
	}
	for _, m := range p.Manifests {
		if m.Why == "" {
			return r, fmt.Errorf("%w: no reason is recorded for %s@%s", ErrRefused, m.Repository, m.Digest)
		}
	}
	for _, b := range p.Blobs {
		if b.Why == "" {
			return r, fmt.Errorf("%w: no reason is recorded for %s of %s", ErrRefused, b.Digest, b.Repository)
		}
	}
	report := func(done int) {
		if progress != nil {
			progress(done, len(p.Tags)+len(p.Manifests)+len(p.Blobs))
		}
	}
	if err := p.executeTags(ctx, st, &r, report); err != nil {
		return r, err
	}
	if err := p.executeManifests(ctx, st, &r, report); err != nil {
		return r, err
	}
	if err := p.executeBlobs(ctx, st, &r, report); err != nil {
		return r, err
	}
	var err error
	if r.Repositories, err = st.CollectRepositories(); err != nil {
		return r, err
	}
	files, bytes, err := st.SweepOrphans(ctx, true)
	r.Orphans = files
	r.Bytes += bytes
	return r, err
}

// lease is what the blobs of a manifest that goes are kept for: long enough for a push that was told they are here,
// unless the operator ended keep times.
func (p *Plan) lease(m ManifestItem) time.Duration {
	if p.Options.end(m.Repository) {
		return 0
	}
	return store.Lease
}

func (p *Plan) executeManifests(ctx context.Context, st *store.Store, r *Result, report func(int)) error {
	for i := 0; i < len(p.Manifests); {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, lease := p.batch(i)
		removed, err := st.CollectManifests(batch, lease)
		if err != nil {
			return err
		}
		for j, gone := range removed {
			for _, m := range batch[j] {
				if gone {
					r.Manifests++
					r.Bytes += m.Size
				} else {
					r.Spared++
				}
			}
			i += len(batch[j])
		}
		report(len(p.Tags) + i)
	}
	return nil
}

// batch returns the next groups for one transaction, which has one lease.
func (p *Plan) batch(i int) (groups [][]store.UntaggedManifest, lease time.Duration) {
	lease = p.lease(p.Manifests[i])
	for last := -1; i < len(p.Manifests); i++ {
		m := p.Manifests[i]
		if m.Group != last {
			if len(groups) == batchMax || p.lease(m) != lease {
				break
			}
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], m.UntaggedManifest)
		last = m.Group
	}
	return groups, lease
}

func (p *Plan) executeBlobs(ctx context.Context, st *store.Store, r *Result, report func(int)) error {
	for i := 0; i < len(p.Blobs); {
		if err := ctx.Err(); err != nil {
			return err
		}
		ended := p.Options.leasesEnded(p.Blobs[i].Repository)
		var batch []store.LooseBlob
		for _, b := range p.Blobs[i:min(len(p.Blobs), i+batchMax)] {
			if !p.Options.leasesEnded(b.Repository).Equal(ended) {
				break
			}
			batch = append(batch, b.LooseBlob)
		}
		removed, freed, err := st.CollectBlobs(ctx, batch, ended)
		if err != nil {
			return err
		}
		for _, gone := range removed {
			if gone {
				r.Blobs++
			} else {
				r.Spared++
			}
		}
		r.Bytes += freed
		i += len(removed)
		report(len(p.Tags) + len(p.Manifests) + i)
	}
	return nil
}
