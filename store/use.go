package store

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	// usesFlush is how often uses are written. Losing the last ones in a crash only delays retention's clock.
	usesFlush = 5 * time.Second
	// usesMax bounds what waits to be written.
	usesMax = 20_000
	// usesBatch bounds what one operation writes: clients' operations queue behind it.
	usesBatch = 100
)

// uses collect who asked for which manifest, because a row for each request would make every pull a write.
type uses struct {
	mu      sync.Mutex
	waiting map[use]*useCount // guarded by mu

	recorded atomic.Int64 // unix seconds; see record

	full chan struct{} // has room for one; wakes tend when many wait

	// flushing is held while uses are written: whoever flushes must find all of them in the database afterwards, also
	// those that somebody else is just writing.
	flushing sync.Mutex
}

type use struct {
	name oci.Name
	tag  oci.Tag // zero when asked for by digest
	dgst digest.Digest
}

type useCount struct {
	pulls int64
	at    int64 // unix seconds of the last
}

// Used notes that a client asked for a manifest by reference and got it. pull is set when it got the bytes. It counts
// for the tags at that digest and for the indexes that name it a few seconds later.
func (s *Store) Used(name oci.Name, ref oci.Reference, dgst digest.Digest, pull bool) {
	if s.readOnly {
		return
	}
	k := use{name: name, tag: ref.Tag, dgst: dgst}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	c := s.uses.waiting[k]
	if c == nil {
		if len(s.uses.waiting) >= usesMax/2 {
			select {
			case s.uses.full <- struct{}{}:
			default:
			}
		}
		if len(s.uses.waiting) >= usesMax {
			return
		}
		if s.uses.waiting == nil {
			s.uses.waiting = make(map[use]*useCount)
		}
		c = &useCount{}
		s.uses.waiting[k] = c
	}
	c.at = s.stamp()
	if pull {
		c.pulls++
	}
}

// tend writes uses until ctx is done.
func (us *uses) tend(ctx context.Context, s *Store) {
	tick := time.NewTicker(usesFlush)
	defer tick.Stop()
	full := us.full
	meter := sleepMeter{last: time.Now().Round(0)}
	s.keepReserve()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			full = us.full
		case <-full:
		}
		if err := s.FlushUses(); err != nil {
			s.log.Warn("uses not recorded", "err", err)
			full = nil // not again before the next tick
		}
		s.keepReserve()
		if s.serving {
			if err := s.keepRecording(&meter); err != nil {
				s.log.Warn("recording of use not noted", "err", err)
			}
		}
		if err := s.keepDiskDay(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("size of the store not noted", "err", err)
		}
		s.rereadAccess(ctx)
		if err := s.flushEvents(); err != nil {
			s.log.Warn("audit log not written", "err", err)
		}
	}
}

// FlushUses writes the uses that wait.
func (s *Store) FlushUses() error {
	s.uses.flushing.Lock()
	defer s.uses.flushing.Unlock()
	s.uses.mu.Lock()
	waiting := s.uses.waiting
	s.uses.waiting = nil
	s.uses.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(waiting)), usesBatch) {
		err := s.change(aside, func(t *tx) error {
			for _, u := range batch {
				if err := t.used(u, waiting[u]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			s.uses.putBack(waiting)
			return err
		}
		for _, u := range batch {
			delete(waiting, u)
		}
	}
	return nil
}

// putBack keeps what could not be written for the next time.
func (us *uses) putBack(waiting map[use]*useCount) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for u, c := range us.waiting {
		if old := waiting[u]; old != nil {
			c.pulls += old.pulls
		}
		waiting[u] = c
	}
	us.waiting = waiting
}

// used credits the manifest, the indexes that name it, and the tags of all of these. A pull is a GET of a manifest
// that no index here names: of an index or a single image. It counts for the tag it was asked by.
func (t *tx) used(u use, c *useCount) error {
	const of = ` (SELECT m.id FROM repositories r JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id WHERE r.name = ?1 AND d.digest = ?2
		UNION SELECT mr.manifest FROM repositories r JOIN digests d JOIN manifest_references mr ON mr.repository = r.id AND mr.target = d.id WHERE r.name = ?1 AND d.digest = ?2)`
	if _, err := t.exec(`UPDATE manifests SET last_used = max(last_used, ?3) WHERE id IN`+of, u.name.String(), u.dgst.String(), c.at); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE tags SET last_used = max(last_used, ?3) WHERE manifest IN`+of, u.name.String(), u.dgst.String(), c.at); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE repositories SET last_used = max(last_used, ?2) WHERE name = ?1`, u.name.String(), c.at); err != nil {
		return err
	}
	if c.pulls == 0 {
		return nil
	}
	if err := t.pulled(u, c); err != nil {
		return err
	}
	// Asked by digest, as containerd does after a HEAD of the tag, it counts for every tag there.
	_, err := t.exec(`UPDATE tags SET pulls = pulls + ?4 WHERE (?3 = '' OR name = ?3) AND manifest = (SELECT m.id FROM repositories r
		JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id WHERE r.name = ?1 AND d.digest = ?2 AND m.refs = 0)`,
		u.name.String(), u.dgst.String(), u.tag.String(), c.pulls)
	return err
}

const (
	secondsPerDay = int64(day / time.Second)
	// pullDays is how long pulls are kept by day.
	pullDays = 400
)

// pulled counts pulls for the repository, by day. The first of a day removes what is too old.
func (t *tx) pulled(u use, c *useCount) error {
	today := c.at / secondsPerDay
	n, err := t.exec(`UPDATE repository_pulls SET pulls = pulls + ?4 WHERE day = ?3 AND repository = (SELECT m.repository FROM repositories r
		JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id WHERE r.name = ?1 AND d.digest = ?2 AND m.refs = 0)`,
		u.name.String(), u.dgst.String(), today, c.pulls)
	if err != nil || n > 0 {
		return err
	}
	if _, err := t.exec(`INSERT INTO repository_pulls (repository, day, pulls) SELECT m.repository, ?3, ?4 FROM repositories r
		JOIN digests d JOIN manifests m ON m.repository = r.id AND m.digest = d.id WHERE r.name = ?1 AND d.digest = ?2 AND m.refs = 0`,
		u.name.String(), u.dgst.String(), today, c.pulls); err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM repository_pulls WHERE repository = (SELECT id FROM repositories WHERE name = ?) AND day < ?`, u.name.String(), today-pullDays)
	return err
}

const (
	// settingRecorded holds until when use was recorded, in unix seconds.
	settingRecorded = "recorded"
	// recordEvery is how often that is noted, so it is known as exactly.
	recordEvery = 10 * time.Minute
	// recordGap is what is taken for a time in which use was not recorded: more than there is between two notes.
	recordGap = 2 * time.Hour
	// gapsKept bounds how long such times are remembered; rules look no further back.
	gapsKept = 10 * 365 * day
)

// Record notes that use is recorded now. The store does it by itself while it serves.
func (s *Store) Record() error { return s.record(false) }

// record notes that use is recorded. With gap set it was not since it was last noted, if that is long ago.
func (s *Store) record(gap bool) error {
	last := s.uses.recorded.Load()
	var now int64
	err := s.change(aside, func(t *tx) error {
		now = t.now
		if gap && last > 0 && now-last > int64(recordGap.Seconds()) {
			if _, err := t.exec(`INSERT INTO recording_gaps (began, ended) VALUES (?1, ?2) ON CONFLICT (began) DO UPDATE SET ended = max(ended, ?2)`, last, now); err != nil {
				return err
			}
			if _, err := t.exec(`DELETE FROM recording_gaps WHERE ended < ?`, now-int64(gapsKept.Seconds())); err != nil {
				return err
			}
		}
		// What a clock that was ahead left behind.
		if _, err := t.exec(`DELETE FROM recording_gaps WHERE began >= ?`, now); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE recording_gaps SET ended = ?1 WHERE ended > ?1`, now); err != nil {
			return err
		}
		return t.setSetting(settingRecorded, strconv.FormatInt(now, 10))
	})
	if err == nil {
		s.uses.recorded.Store(now)
	}
	return err
}

// A sleepMeter tells how long the process stood still, or the machine slept: it is asked every few seconds.
type sleepMeter struct{ last time.Time }

func (m *sleepMeter) slept() time.Duration {
	now := time.Now().Round(0) // by the time of day, which goes on in sleep
	slept := now.Sub(m.last)
	m.last = now
	return slept
}

// keepRecording notes now and then that use is recorded, and after a sleep that it was not.
func (s *Store) keepRecording(meter *sleepMeter) error {
	slept := meter.slept() > recordGap
	now, last := s.stamp(), s.uses.recorded.Load()
	if !slept && now >= last && now-last < int64(recordEvery.Seconds()) {
		return nil
	}
	return s.record(slept)
}

// startRecording begins to record use in a store that is opened to serve.
func (s *Store) startRecording(ctx context.Context) error {
	value, err := s.Setting(ctx, settingRecorded)
	if err != nil {
		return err
	}
	if value != "" {
		last, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return err
		}
		s.uses.recorded.Store(last)
	}
	return s.record(true)
}
