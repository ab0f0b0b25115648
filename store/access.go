package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"cubby/store/oci"
)

// Actions are a set of what may be done to a repository.
type Actions uint8

// The actions. Push is new content and tags that are not there; moving one that is there is Overwrite. Admin is all of
// them, and to say who else may do what.
const (
	ActionPull Actions = 1 << iota
	ActionPush
	ActionOverwrite
	ActionDelete
	ActionAdmin

	ActionsAll = ActionPull | ActionPush | ActionOverwrite | ActionDelete | ActionAdmin
)

var actionNames = []struct {
	action Actions
	name   string
}{{ActionPull, "pull"}, {ActionPush, "push"}, {ActionOverwrite, "overwrite"}, {ActionDelete, "delete"}, {ActionAdmin, "admin"}}

// ErrActionsInvalid says that a list of actions cannot be read.
var ErrActionsInvalid error = refusal("actions invalid")

// ParseActions reads a list such as pull,push.
func ParseActions(s string) (Actions, error) {
	var a Actions
	for word := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(actionNames, func(n struct {
			action Actions
			name   string
		}) bool {
			return n.name == strings.TrimSpace(word)
		})
		if i < 0 {
			return 0, fmt.Errorf("%w: %.40q is not pull, push, overwrite, delete or admin, or several with commas between", ErrActionsInvalid, word)
		}
		a |= actionNames[i].action
	}
	return a, nil
}

// String lists the actions as ParseActions reads them.
func (a Actions) String() string {
	var names []string
	for _, n := range actionNames {
		if a&n.action != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// Has reports whether all of these actions are in the set. Admin has every one.
func (a Actions) Has(b Actions) bool { return a&ActionAdmin != 0 || a&b == b }

// A Grant allows actions to the repositories that a pattern matches.
type Grant struct {
	Repositories oci.Glob
	Actions      Actions
}

// Allowed returns what grants allow to do to a repository.
func Allowed(grants []Grant, name oci.Name) (a Actions) {
	for _, g := range grants {
		if g.Repositories.Match(name.String()) {
			a |= g.Actions
		}
	}
	return a
}

// globAll is the pattern of all repositories.
const globAll = "**"

// An Access is who may do what, at one moment. It is immutable.
type Access struct {
	Users     map[string]*User
	Tokens    map[string]*Token // by id
	Sessions  map[SessionID]*Session
	Anonymous []Grant // what everybody may do
	// Unknown is set when the database could not be read after a change: nobody may do anything.
	Unknown bool
}

// These errors are about users and tokens.
var (
	ErrUserUnknown  error = refusal("no such user")
	ErrUserExists   error = refusal("there is such a user already")
	ErrUserInvalid  error = refusal("user name invalid")
	ErrTokenUnknown error = refusal("no such token")
)

// access holds the present Access.
type access struct {
	current atomic.Pointer[Access]

	// changing is held from a change until what it changed is in current: a change that was answered is in force.
	changing sync.Mutex
	ended    []SessionID // guarded by changing; of sessions that are over, whose rows could not be removed yet
}

// Access returns who may do what now.
func (s *Store) Access() *Access { return s.access.current.Load() }

func (a *access) load(ctx context.Context, db *database) error {
	next := &Access{Users: make(map[string]*User), Tokens: make(map[string]*Token)}
	ids := make(map[int64]*User)
	users, err := collect(ctx, db, scanUser, `SELECT id, name, password, created_at FROM users`)
	if err != nil {
		return err
	}
	for _, u := range users {
		next.Users[u.Name], ids[u.ID] = u, u
	}
	type userGrant struct {
		user int64
		Grant
	}
	grants, err := collect(ctx, db, func(r row) (g userGrant, err error) {
		g.Grant, err = scanGrant(r, &g.user)
		return g, err
	}, `SELECT user, repositories, actions FROM grants ORDER BY repositories`)
	if err != nil {
		return err
	}
	for _, g := range grants {
		ids[g.user].Grants = append(ids[g.user].Grants, g.Grant)
	}
	next.Anonymous, err = collect(ctx, db, func(r row) (Grant, error) { return scanGrant(r) }, `SELECT repositories, actions FROM anonymous_grants ORDER BY repositories`)
	if err != nil {
		return err
	}
	tokens, err := collect(ctx, db, func(r row) (*Token, error) { return scanToken(r, ids) },
		`SELECT id, user, secret, description, repositories, actions, networks, created_at, expires_at FROM tokens`)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		next.Tokens[t.ID] = t
	}
	if err := a.loadSessions(ctx, db, next); err != nil {
		return err
	}
	a.current.Store(next)
	return nil
}

// scanGrant reads a pattern and actions, behind other columns.
func scanGrant(r row, before ...any) (g Grant, err error) {
	var pattern, actions string
	if err := r.Scan(append(before, &pattern, &actions)...); err != nil {
		return g, err
	}
	return parseGrant(pattern, actions)
}

func parseGrant(pattern, actions string) (g Grant, err error) {
	if g.Repositories, err = oci.ParseGlob(pattern); err != nil {
		return g, err
	}
	g.Actions, err = ParseActions(actions)
	return g, err
}

// changeAccess runs a change of who may do what. When it returns nil the change is on the disk and in force.
func (s *Store) changeAccess(ctx context.Context, run func(*tx) error) error {
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	if err := s.change(anything, run); err != nil {
		return err
	}
	// The change is made: whoever asked for it going away must not leave it without force.
	err := s.access.load(context.WithoutCancel(ctx), s.db)
	if err != nil {
		s.log.Error("who may do what cannot be read: nobody may do anything until it can, or until restart", "err", err)
		s.access.current.Store(&Access{Unknown: true})
	}
	return err
}

// rereadAccess reads who may do what again after that failed.
func (s *Store) rereadAccess(ctx context.Context) {
	if !s.Access().Unknown {
		return
	}
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	if err := s.access.load(ctx, s.db); err != nil {
		s.log.Error("who may do what cannot be read: nobody may do anything", "err", err)
	}
}

// setGrant replaces the actions of a pattern; none removes it.
func (t *tx) setGrant(user int64, g Grant) error {
	if g.Actions == 0 {
		_, err := t.exec(`DELETE FROM grants WHERE user = ? AND repositories = ?`, user, g.Repositories.String())
		return err
	}
	_, err := t.exec(`INSERT INTO grants (user, repositories, actions) VALUES (?1, ?2, ?3) ON CONFLICT (user, repositories) DO UPDATE SET actions = ?3`,
		user, g.Repositories.String(), g.Actions.String())
	return err
}

// granted returns the actions of exactly this pattern.
func (t *tx) granted(user int64, pattern oci.Glob) (Actions, error) {
	var actions string
	err := t.queryRow(t.ctx, `SELECT actions FROM grants WHERE user = ? AND repositories = ?`, user, pattern.String()).Scan(&actions)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return ParseActions(actions)
}

// AddGrant allows a user more, and returns what it may do to the repositories of exactly this pattern then.
func (s *Store) AddGrant(ctx context.Context, name string, g Grant, by Actor) (now Grant, err error) {
	return s.changeGrant(ctx, name, g, AuditGrant, func(a Actions) Actions { return a | g.Actions }, by)
}

// RemoveGrant takes actions of exactly this pattern from a user, and returns what is left.
func (s *Store) RemoveGrant(ctx context.Context, name string, g Grant, by Actor) (now Grant, err error) {
	return s.changeGrant(ctx, name, g, AuditRevoke, func(a Actions) Actions { return a &^ g.Actions }, by)
}

func (s *Store) changeGrant(ctx context.Context, name string, g Grant, action AuditAction, change func(Actions) Actions, by Actor) (now Grant, err error) {
	err = s.changeAccess(ctx, func(t *tx) error {
		id, err := t.user(name)
		if err != nil {
			return err
		}
		before, err := t.granted(id, g.Repositories)
		if err != nil {
			return err
		}
		if action == AuditRevoke && before&g.Actions == 0 {
			return fmt.Errorf("%w: %s has no grant of %s for %s", ErrGrantUnknown, name, g.Actions, g.Repositories)
		}
		now = Grant{g.Repositories, change(before)}
		if err := t.setGrant(id, now); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: action, Repository: g.Repositories.String(), Detail: name + " " + g.Actions.String()}, by)
	})
	return now, err
}

// ErrGrantUnknown says that there is no such grant to take away.
var ErrGrantUnknown error = refusal("no such grant")

// ClearAnonymous takes everything from everybody who does not log in.
func (s *Store) ClearAnonymous(ctx context.Context, by Actor) error {
	return s.changeAccess(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM anonymous_grants`); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: AuditAnonymous, Repository: globAll, Detail: "none"}, by)
	})
}

// OpenInMemory is SetAnonymous for a store that is not written, until it is closed. With only set, other grants end.
func (s *Store) OpenInMemory(g Grant, only bool) {
	a := &s.access
	a.changing.Lock()
	defer a.changing.Unlock()
	next := *a.current.Load()
	next.Anonymous = slices.DeleteFunc(slices.Clone(next.Anonymous), func(old Grant) bool { return only || old.Repositories == g.Repositories })
	if g.Actions != 0 {
		next.Anonymous = append(next.Anonymous, g)
	}
	a.current.Store(&next)
}

// SetAnonymous sets what everybody may do to the repositories of a pattern; no actions removes it.
func (s *Store) SetAnonymous(ctx context.Context, g Grant, by Actor) error {
	return s.changeAccess(ctx, func(t *tx) error {
		var err error
		if g.Actions == 0 {
			_, err = t.exec(`DELETE FROM anonymous_grants WHERE repositories = ?`, g.Repositories.String())
		} else {
			_, err = t.exec(`INSERT INTO anonymous_grants (repositories, actions) VALUES (?1, ?2) ON CONFLICT (repositories) DO UPDATE SET actions = ?2`,
				g.Repositories.String(), g.Actions.String())
		}
		if err != nil {
			return err
		}
		actions := g.Actions.String()
		if actions == "" {
			actions = "none"
		}
		return t.audit(AuditEntry{Action: AuditAnonymous, Repository: g.Repositories.String(), Detail: actions}, by)
	})
}
