package store

import (
	"context"
	"maps"
	"math"
	"strconv"
	"sync"
	"time"
)

// An AuditAction is what was done.
type AuditAction string

// The actions of the audit log.
const (
	AuditLogin        AuditAction = "login"
	AuditLoginFailed  AuditAction = "login failed"
	AuditLogout       AuditAction = "logout"
	AuditDenied       AuditAction = "denied"
	AuditPush         AuditAction = "push"
	AuditDelete       AuditAction = "delete"
	AuditUserAdd      AuditAction = "user add"
	AuditUserPassword AuditAction = "user passwd"
	AuditUserRemove   AuditAction = "user rm"
	AuditGrant        AuditAction = "grant"
	AuditRevoke       AuditAction = "revoke"
	AuditAnonymous    AuditAction = "anonymous"
	AuditTokenCreate  AuditAction = "token create"
	AuditTokenRevoke  AuditAction = "token revoke"
)

// An AuditEntry is a line of the audit log: who did what, from where, and with what client.
type AuditEntry struct {
	ID         int64       `json:"id"`
	At         time.Time   `json:"at"`
	Action     AuditAction `json:"action"`
	Who        string      `json:"who"`
	Token      string      `json:"token,omitempty"`      // id of the access token that was used
	Repository string      `json:"repository,omitempty"` // or a pattern
	Reference  string      `json:"reference,omitempty"`  // tags or a digest
	Detail     string      `json:"detail,omitempty"`
	Address    string      `json:"address"`
	Client     string      `json:"client,omitempty"` // as it calls itself
}

const (
	// auditKept is how long entries are kept.
	auditKept = 90 * day
	// auditPrune is how often old ones are removed.
	auditPrune = time.Hour
	// auditPruneRows is after how many entries that change nothing it is done sooner.
	auditPruneRows = 10_000
	// auditNoiseMax bounds those of them that change nothing: strangers can cause them, and must not push out the rest.
	auditNoiseMax = 100_000
	// auditWaiting bounds what waits to be written; more is dropped and counted in the log.
	auditWaiting = 2_000
	// auditText bounds a text of an entry in bytes: clients choose some of them.
	auditText = 300
)

// audit writes an entry inside a transaction.
func (t *tx) audit(e AuditEntry, by Actor) error {
	_, err := t.insert(`INSERT INTO audit (at, action, who, token, repository, reference, detail, address, client) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.now, string(e.Action), by.Name, by.Token, clip(e.Repository), clip(e.Reference), clip(e.Detail), by.Address, clip(by.Client))
	return err
}

func clip(s string) string {
	if len(s) <= auditText {
		return s
	}
	return s[:auditText-3] + "..."
}

// events are what is written a few seconds later, because a row for each would make every pull a write.
type events struct {
	mu       sync.Mutex
	audit    []waitingEntry         // guarded by mu
	dropped  int                    // guarded by mu
	tokens   map[string]TokenUse    // guarded by mu
	sessions map[SessionID]TokenUse // guarded by mu
	pruned   int64                  // guarded by mu; unix seconds, when old entries were last removed
	noise    int                    // guarded by mu; entries written since then
}

type waitingEntry struct {
	AuditEntry
	by Actor
	at int64 // unix seconds
}

// Audit notes something that changes nothing, like a login or a denial. It is written a few seconds later; the last
// ones are lost in a crash. What changes something is written with the change.
func (s *Store) Audit(e AuditEntry, by Actor) {
	if s.readOnly {
		return
	}
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	if len(s.events.audit) >= auditWaiting {
		s.events.dropped++
		return
	}
	e.Repository, e.Reference, e.Detail, by.Client = clip(e.Repository), clip(e.Reference), clip(e.Detail), clip(by.Client)
	s.events.audit = append(s.events.audit, waitingEntry{e, by, s.stamp()})
}

// flushEvents writes what waits.
func (s *Store) flushEvents() error {
	s.events.mu.Lock()
	audit, dropped, tokens, sessions := s.events.audit, s.events.dropped, s.events.tokens, s.events.sessions
	s.events.audit, s.events.dropped, s.events.tokens, s.events.sessions = nil, 0, nil, nil
	s.events.noise += len(audit)
	prune := s.serving && (s.stamp()-s.events.pruned >= int64(auditPrune.Seconds()) || s.events.noise >= auditPruneRows)
	s.events.mu.Unlock()
	if dropped > 0 {
		s.log.Warn("too many logins and denials, some are not in the audit log", "dropped", dropped)
	}
	if len(audit) == 0 && len(tokens) == 0 && len(sessions) == 0 && !prune {
		return nil
	}
	// It stores something new, so it must leave the last space to deletes.
	err := s.add(aside, func(t *tx) error {
		now := t.now
		defer func() { t.now = now }()
		for _, e := range audit {
			t.now = e.at
			if err := t.audit(e.AuditEntry, e.by); err != nil {
				return err
			}
		}
		t.now = now
		if err := t.writeTokenUses(tokens); err != nil {
			return err
		}
		return t.writeSessionUses(sessions)
	})
	if err != nil {
		s.events.putBack(audit, tokens, sessions)
		return err
	}
	if !prune {
		return nil
	}
	if err := s.change(aside, func(t *tx) error { return t.pruneAudit() }); err != nil {
		return err
	}
	if err := s.pruneSessions(); err != nil {
		return err
	}
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.events.pruned, s.events.noise = s.stamp(), 0
	return nil
}

// putBack keeps what could not be written for the next time, as far as there is room.
func (e *events) putBack(audit []waitingEntry, tokens map[string]TokenUse, sessions map[SessionID]TokenUse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	room := max(0, auditWaiting-len(e.audit))
	e.dropped += max(0, len(audit)-room)
	e.audit = append(audit[:min(len(audit), room)], e.audit...)
	if tokens != nil {
		maps.Copy(tokens, e.tokens)
		e.tokens = tokens
	}
	if sessions != nil {
		maps.Copy(sessions, e.sessions)
		e.sessions = sessions
	}
}

// pruneAudit removes entries that are too old, or too many of those that change nothing.
func (t *tx) pruneAudit() error {
	// By age only while the clock is believed, or nobody watches it.
	if _, err := t.exec(`DELETE FROM audit WHERE at < ?1 AND NOT EXISTS (SELECT 1 FROM clock WHERE doubt_since <> 0 OR ?2 - seen_at > ?3)`,
		t.now-int64(auditKept.Seconds()), t.now, int64((2 * day).Seconds())); err != nil {
		return err
	}
	const noise = `FROM audit INDEXED BY audit_noise WHERE action IN ('login', 'login failed', 'logout', 'denied') `
	_, err := t.exec(`DELETE `+noise+`AND id <= (SELECT id `+noise+`ORDER BY id DESC LIMIT 1 OFFSET ?)`, auditNoiseMax)
	return err
}

// AuditActions returns all actions that there are, as people look for them.
func AuditActions() []AuditAction {
	return []AuditAction{AuditPush, AuditDelete, AuditLogin, AuditLoginFailed, AuditLogout, AuditDenied, AuditUserAdd, AuditUserPassword, AuditUserRemove,
		AuditGrant, AuditRevoke, AuditAnonymous, AuditTokenCreate, AuditTokenRevoke}
}

// An AuditFilter selects entries; empty fields select all.
type AuditFilter struct {
	Who, Token, Repository string
	Since                  time.Time
	Action                 AuditAction
	Address                string
	Part                   string // of the repository or the reference, in either case, without wildcards
}

// selects reports whether anything but the time is asked for: then entries have to be looked at to find some.
func (f AuditFilter) selects() bool {
	f.Since = time.Time{}
	return f != AuditFilter{}
}

// AuditEntries returns at most n entries, the newest first: those behind the last of the page before, or from the newest
// when it is zero. It looks at as many as it takes.
func (s *Store) AuditEntries(ctx context.Context, f AuditFilter, last AuditEntry, n int) ([]AuditEntry, error) {
	return s.auditEntries(ctx, f, s.auditFrom(last), auditPlace{}, n)
}

// An AuditPage is a part of the audit log.
type AuditPage struct {
	Entries []AuditEntry // the newest first
	// Next is where the next page begins, "" when there is none. Behind Looked it may be that nothing more is found.
	Next   string
	Looked time.Time // how far back was looked, when there was too much to look at for one page; else zero
}

// auditLook is how many entries a page looks at to find some: a search must not hold a connection for seconds.
const auditLook = 50_000

// AuditSearch returns at most n entries from a place in the log on, or from the newest when it is "", and looks at no more
// than a part of a large log. ErrCursor says that there is no such place.
func (s *Store) AuditSearch(ctx context.Context, f AuditFilter, from string, n int) (p AuditPage, err error) {
	var last AuditEntry
	if from != "" {
		c, err := parseCursor(auditOrder, from)
		if err != nil {
			return p, err
		}
		if last.ID, err = strconv.ParseInt(c.Key, 10, 64); err != nil || last.ID <= 0 {
			return p, ErrCursor
		}
		last.At = time.Unix(c.Number, 0)
	}
	begin, floor := s.auditFrom(last), auditPlace{}
	if f.selects() {
		floors, err := collect(ctx, s.db, func(r row) (p auditPlace, err error) { return p, r.Scan(&p.at, &p.id) },
			`SELECT at, id FROM audit WHERE (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?`, begin.at, begin.id, auditLook-1)
		if err != nil {
			return p, err
		}
		if len(floors) > 0 {
			floor = floors[0]
		}
	}
	if p.Entries, err = s.auditEntries(ctx, f, begin, floor, n+1); err != nil {
		return p, err
	}
	switch {
	case len(p.Entries) > n:
		p.Entries = p.Entries[:n]
		end := p.Entries[n-1]
		p.Next = auditPlace{end.At.Unix(), end.ID}.cursor()
	case floor != auditPlace{} && (f.Since.IsZero() || floor.at >= f.Since.Unix()):
		p.Next, p.Looked = floor.cursor(), time.Unix(floor.at, 0)
	}
	return p, nil
}

// An auditPlace is where an entry stands in the log.
type auditPlace struct{ at, id int64 }

// auditOrder names the only order of the audit log in cursors.
const auditOrder = "audit"

func (p auditPlace) cursor() string {
	return cursor{Sort: auditOrder, Number: p.at, Key: strconv.FormatInt(p.id, 10)}.String()
}

// auditFrom returns the place behind which a page begins. Before the first page what waits is written.
func (s *Store) auditFrom(last AuditEntry) auditPlace {
	if last.ID != 0 {
		return auditPlace{last.At.Unix(), last.ID}
	}
	s.settleEvents()
	return auditPlace{math.MaxInt64, math.MaxInt64}
}

// settleEvents writes what waits, for somebody who is about to read it. What cannot be written waits on.
func (s *Store) settleEvents() {
	if err := s.flushEvents(); err != nil {
		s.log.Warn("audit log not written", "err", err)
	}
}

// auditEntries returns entries before one place, down to another.
func (s *Store) auditEntries(ctx context.Context, f AuditFilter, from, floor auditPlace, n int) ([]AuditEntry, error) {
	since, part := int64(0), ""
	if !f.Since.IsZero() {
		since = f.Since.Unix()
	}
	if f.Part != "" {
		part = "%" + escapeLike(f.Part) + "%"
	}
	return collect(ctx, s.db, func(r row) (e AuditEntry, err error) {
		var at int64
		err = r.Scan(&e.ID, &at, &e.Action, &e.Who, &e.Token, &e.Repository, &e.Reference, &e.Detail, &e.Address, &e.Client)
		e.At = time.Unix(at, 0)
		return e, err
	}, `SELECT id, at, action, who, token, repository, reference, detail, address, client FROM audit
		WHERE (at, id) < (?1, ?2) AND (at, id) >= (?3, ?4) AND at >= ?5 AND (?6 = '' OR who = ?6) AND (?7 = '' OR token = ?7) AND (?8 = '' OR repository = ?8)
			AND (?9 = '' OR action = ?9) AND (?10 = '' OR address = ?10)
			AND (?11 = '' OR repository LIKE ?11 ESCAPE '\' OR reference LIKE ?11 ESCAPE '\')
		ORDER BY at DESC, id DESC LIMIT ?12`, from.at, from.id, floor.at, floor.id, since, f.Who, f.Token, f.Repository, string(f.Action), f.Address, part, n)
}
