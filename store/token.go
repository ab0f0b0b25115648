package store

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Token is an access token of a user: it allows what both the user and its grant allow. It is immutable.
type Token struct {
	ID          string
	User        *User
	Secret      []byte // SHA-256 of it
	Description string
	Grant       Grant
	Networks    []netip.Prefix // from where it may be used; empty for everywhere
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero for never
}

// Expired reports whether the token is not valid any more.
func (t *Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

func scanToken(r row, users map[int64]*User) (*Token, error) {
	t := &Token{}
	var user, created, expires int64
	var pattern, actions, networks string
	err := r.Scan(&t.ID, &user, &t.Secret, &t.Description, &pattern, &actions, &networks, &created, &expires)
	if err != nil {
		return nil, err
	}
	if t.Grant, err = parseGrant(pattern, actions); err != nil {
		return nil, err
	}
	for v := range strings.FieldsSeq(networks) {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, err
		}
		t.Networks = append(t.Networks, p)
	}
	t.User, t.CreatedAt = users[user], time.Unix(created, 0)
	if expires != 0 {
		t.ExpiresAt = time.Unix(expires, 0)
	}
	return t, nil
}

// AddToken stores an access token of a user. Its ID must be new.
func (s *Store) AddToken(ctx context.Context, user string, v Token, by Actor) error {
	return s.changeAccess(ctx, func(t *tx) error {
		id, err := t.user(user)
		if err != nil {
			return err
		}
		var networks []string
		for _, p := range v.Networks {
			networks = append(networks, p.String())
		}
		expires := int64(0)
		if !v.ExpiresAt.IsZero() {
			expires = v.ExpiresAt.Unix()
		}
		if _, err := t.exec(`INSERT INTO tokens (id, user, secret, description, repositories, actions, networks, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, v.ID, id, v.Secret, v.Description, v.Grant.Repositories.String(), v.Grant.Actions.String(),
			strings.Join(networks, " "), t.now, expires); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: AuditTokenCreate, Repository: v.Grant.Repositories.String(), Detail: user + " " + v.ID + " " + v.Grant.Actions.String()}, by)
	})
}

// RemoveToken revokes an access token, and what was derived from it.
func (s *Store) RemoveToken(ctx context.Context, id string, by Actor) error {
	return s.changeAccess(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM tokens WHERE id = ?`, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %s", ErrTokenUnknown, id)
		}
		return t.audit(AuditEntry{Action: AuditTokenRevoke, Detail: id}, by)
	})
}

// A TokenUse is when and from where a token, or a session, was last used.
type TokenUse struct {
	At      time.Time // zero for never
	Address string
}

// TokenUses returns the last use of every token.
func (s *Store) TokenUses(ctx context.Context) (map[string]TokenUse, error) {
	s.settleEvents()
	type use struct {
		id string
		TokenUse
	}
	uses, err := collect(ctx, s.db, func(r row) (u use, err error) {
		var at int64
		err = r.Scan(&u.id, &at, &u.Address)
		if at != 0 {
			u.At = time.Unix(at, 0)
		}
		return u, err
	}, `SELECT id, last_used, last_address FROM tokens`)
	all := make(map[string]TokenUse)
	for _, u := range uses {
		all[u.id] = u.TokenUse
	}
	return all, err
}

// TokenUsed notes that a token was used. It is written a few seconds later.
func (s *Store) TokenUsed(id, address string) {
	if s.readOnly {
		return
	}
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	if s.events.tokens == nil {
		s.events.tokens = make(map[string]TokenUse)
	}
	s.events.tokens[id] = TokenUse{time.Unix(s.stamp(), 0), address}
}

// writeTokenUses writes last uses inside a transaction.
func (t *tx) writeTokenUses(uses map[string]TokenUse) error {
	for _, id := range slices.Sorted(maps.Keys(uses)) {
		u := uses[id]
		if _, err := t.exec(`UPDATE tokens SET last_used = max(last_used, ?2), last_address = ?3 WHERE id = ?1`, id, u.At.Unix(), u.Address); err != nil {
			return err
		}
	}
	return nil
}
