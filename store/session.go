package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A SessionID names a session: the SHA-256 of what its browser holds.
type SessionID [sha256.Size]byte

// A Session is a login of a browser. It is immutable. Whether its user is still there, with the same password, only who
// knows all users can tell.
type Session struct {
	ID        SessionID
	User      string
	UserID    int64             // 0 for a user of an htpasswd file
	Password  [sha256.Size]byte // of the user's password hash at login
	CreatedAt time.Time
	ExpiresAt time.Time
	Address   string
	Client    string // as the browser calls itself

	unwritten bool // it is in memory only
}

// Expired reports whether the session is over.
func (v *Session) Expired(now time.Time) bool { return !now.Before(v.ExpiresAt) }

// sessionsMax bounds the sessions of a user; the oldest go.
const sessionsMax = 50

// AddSession begins a session, and ends those of the same browser before. While the store takes no writes it is in memory
// only and ends with the process: who frees a full disk must be able to log in.
func (s *Store) AddSession(v Session, before ...SessionID) error {
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	v.Client = clip(v.Client)
	now := s.access.current.Load()
	if now.Unknown {
		return errors.New("who may do what is not known")
	}
	// Those that are over too: a store that is not written has no upkeep.
	ended := now.sessions(func(old *Session) bool { return old.Expired(v.CreatedAt) || slices.Contains(before, old.ID) })
	mine := now.sessions(func(old *Session) bool { return old.User == v.User && !slices.Contains(ended, old) })
	ended = append(ended, mine[:max(0, len(mine)+1-sessionsMax)]...)
	return s.changeSessions(&v, ended)
}

// sessions returns those that match, the oldest first.
func (a *Access) sessions(match func(*Session) bool) (list []*Session) {
	for _, v := range a.Sessions {
		if match(v) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *Session) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}

// EndSessions ends the sessions that match and returns how many there were. They are over even when it returns an error.
// While the store takes no writes those that are written come back with a restart.
func (s *Store) EndSessions(match func(*Session) bool) (int, error) {
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	ended := s.access.current.Load().sessions(match)
	if len(ended) == 0 {
		return 0, nil
	}
	return len(ended), s.changeSessions(nil, ended)
}

// pruneSessions removes those that are over, and what could not be removed when it ended.
func (s *Store) pruneSessions() error {
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	now := time.Unix(s.stamp(), 0)
	ended := s.access.current.Load().sessions(func(v *Session) bool { return v.Expired(now) })
	if len(ended) == 0 && len(s.access.ended) == 0 {
		return nil
	}
	return s.changeSessions(nil, ended)
}

// changeSessions adds a session, or nil, and removes others. The caller holds access.changing. It takes no reread of
// everything: a login must not cost more the more users there are.
func (s *Store) changeSessions(add *Session, ended []*Session) error {
	a := &s.access
	for _, v := range ended {
		if !v.unwritten {
			a.ended = append(a.ended, v.ID)
		}
	}
	err := s.change(aside, func(t *tx) error {
		for _, id := range a.ended {
			if _, err := t.exec(`DELETE FROM sessions WHERE id = ?`, id[:]); err != nil {
				return err
			}
		}
		if add == nil {
			return nil
		}
		return t.addSession(add)
	})
	if err == nil {
		a.ended = nil
	}
	if add != nil && (errors.Is(err, ErrFull) || errors.Is(err, ErrReadOnly)) {
		if !s.readOnly {
			s.log.Warn("session not written, it ends with this process", "user", add.User, "err", err)
		}
		add.unwritten, err = true, nil
	}
	if s.readOnly {
		err = nil
	}
	next := *a.current.Load()
	next.Sessions = maps.Clone(next.Sessions)
	for _, v := range ended {
		delete(next.Sessions, v.ID)
	}
	if add != nil && err == nil {
		next.Sessions[add.ID] = add
	}
	a.current.Store(&next)
	return err
}

func (t *tx) addSession(v *Session) error {
	_, err := t.exec(`INSERT INTO sessions (id, user, user_id, password, created_at, expires_at, last_used, address, client) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		v.ID[:], v.User, v.UserID, v.Password[:], v.CreatedAt.Unix(), v.ExpiresAt.Unix(), v.CreatedAt.Unix(), v.Address, v.Client)
	return err
}

// loadSessions reads the sessions into the next Access. The caller holds changing, or nobody else has the store yet.
func (a *access) loadSessions(ctx context.Context, db *database, next *Access) error {
	written, err := collect(ctx, db, scanSession, `SELECT id, user, user_id, password, created_at, expires_at, address, client FROM sessions`)
	if err != nil {
		return err
	}
	next.Sessions = make(map[SessionID]*Session)
	for _, v := range written {
		if !slices.Contains(a.ended, v.ID) {
			next.Sessions[v.ID] = v
		}
	}
	if now := a.current.Load(); now != nil {
		for _, v := range now.Sessions {
			if v.unwritten {
				next.Sessions[v.ID] = v
			}
		}
	}
	return nil
}

func scanSession(r row) (*Session, error) {
	v := &Session{}
	var id, password []byte
	var created, expires int64
	err := r.Scan(&id, &v.User, &v.UserID, &password, &created, &expires, &v.Address, &v.Client)
	if err == nil && (len(id) != len(v.ID) || len(password) != len(v.Password)) {
		err = fmt.Errorf("session of %s: hashes of %d and %d bytes", v.User, len(id), len(password))
	}
	if err != nil {
		return nil, err
	}
	v.ID, v.Password = SessionID(id), [sha256.Size]byte(password)
	v.CreatedAt, v.ExpiresAt = time.Unix(created, 0), time.Unix(expires, 0)
	return v, nil
}

// SessionUsed notes that a session was used. It is written a few seconds later.
func (s *Store) SessionUsed(id SessionID, address string) {
	if s.readOnly {
		return
	}
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	if s.events.sessions == nil {
		s.events.sessions = make(map[SessionID]TokenUse)
	}
	s.events.sessions[id] = TokenUse{time.Unix(s.stamp(), 0), address}
}

// SessionUses returns the last use of a user's sessions, as far as it is written.
func (s *Store) SessionUses(ctx context.Context, user string) (map[SessionID]TokenUse, error) {
	type use struct {
		id []byte
		TokenUse
	}
	uses, err := collect(ctx, s.db, func(r row) (u use, err error) {
		var at int64
		err = r.Scan(&u.id, &at, &u.Address)
		u.At = time.Unix(at, 0)
		return u, err
	}, `SELECT id, last_used, address FROM sessions WHERE user = ?`, user)
	all := make(map[SessionID]TokenUse)
	for _, u := range uses {
		all[SessionID(u.id)] = u.TokenUse
	}
	return all, err
}

// writeSessionUses writes last uses inside a transaction.
func (t *tx) writeSessionUses(uses map[SessionID]TokenUse) error {
	for id, u := range uses {
		if _, err := t.exec(`UPDATE sessions SET last_used = max(last_used, ?2), address = ?3 WHERE id = ?1`, id[:], u.At.Unix(), u.Address); err != nil {
			return err
		}
	}
	return nil
}
