package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// A User may log in. It is immutable.
type User struct {
	ID        int64
	Name      string
	Password  string // a bcrypt hash
	CreatedAt time.Time
	Grants    []Grant
}

// IsAdmin reports whether the user may do everything.
func (u *User) IsAdmin() bool {
	return slices.ContainsFunc(u.Grants, func(g Grant) bool { return g.Actions&ActionAdmin != 0 && g.Repositories.String() == globAll })
}

// globAll is the pattern of all repositories.
const globAll = "**"

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

// userNameMax is the longest name of a user in bytes.
const userNameMax = 64

// CheckUserName returns ErrUserInvalid for a name that no user can have: Basic authentication ends it at a colon, and
// "anonymous" is whoever does not log in.
func CheckUserName(name string) error {
	const signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-"
	bad := func(r rune) bool { return !strings.ContainsRune(signs, r) }
	switch {
	case name == "" || len(name) > userNameMax || strings.ContainsFunc(name, bad):
		return fmt.Errorf("%w: %.70q; a name has 1 to %d letters, digits and signs . _ @ + -", ErrUserInvalid, name, userNameMax)
	case name == "anonymous":
		return fmt.Errorf("%w: anonymous is whoever does not log in", ErrUserInvalid)
	}
	return nil
}

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

func scanUser(r row) (*User, error) {
	u := &User{}
	var created int64
	err := r.Scan(&u.ID, &u.Name, &u.Password, &created)
	u.CreatedAt = time.Unix(created, 0)
	return u, err
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

// FirstUser is the name of the user that is made on a network when there is none.
const FirstUser = "admin"

// WriteAdminPassword keeps the password of FirstUser in a file, for its owner to read.
func (s *Store) WriteAdminPassword(password string) error {
	if err := s.changeable(); err != nil {
		return err
	}
	return s.data.WriteFile(FileAdminPassword, ".", []byte(password+"\n"))
}

// HasAdminPassword reports whether the password that was made up for the first user is still in its file.
func (s *Store) HasAdminPassword() bool {
	_, err := s.data.Root().Stat(FileAdminPassword)
	return err == nil
}

// forgetAdminPassword removes the file with a password that is not valid any more.
func (s *Store) forgetAdminPassword(name string) {
	if name != FirstUser {
		return
	}
	if err := s.data.Remove(FileAdminPassword); err != nil {
		s.log.Warn("file with an old password left behind", "file", FileAdminPassword, "err", err)
	}
}

// changeAccess runs a change of who may do what. When it returns nil the change is on the disk and in force.
func (s *Store) changeAccess(ctx context.Context, run func(*tx) error) error {
	s.access.changing.Lock()
	defer s.access.changing.Unlock()
	if err := s.change(run); err != nil {
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

// AddUser makes a user with a bcrypt hash of its password, or is ErrUserExists. The first one without grants gets all
// rights, because somebody must be able to give them. It returns what the user may do, and whether it is the first.
func (s *Store) AddUser(ctx context.Context, name, password string, grants []Grant, by Actor) (granted []Grant, first bool, err error) {
	if err := CheckUserName(name); err != nil {
		return nil, false, err
	}
	all, err := oci.ParseGlob(globAll)
	if err != nil {
		return nil, false, err
	}
	err = s.changeAccess(ctx, func(t *tx) error {
		granted = grants
		if err := t.queryRow(t.ctx, `SELECT NOT EXISTS (SELECT 1 FROM users)`).Scan(&first); err != nil {
			return err
		}
		if first && len(grants) == 0 {
			granted = []Grant{{all, ActionAdmin}}
		}
		var exists bool
		if err := t.queryRow(t.ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE name = ?)`, name).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return fmt.Errorf("%w: %s", ErrUserExists, name)
		}
		id, err := t.insert(`INSERT INTO users (name, password, created_at) VALUES (?, ?, ?)`, name, password, t.now)
		if err != nil {
			return err
		}
		for _, g := range granted {
			if err := t.setGrant(id, g); err != nil {
				return err
			}
		}
		return t.audit(AuditEntry{Action: AuditUserAdd, Detail: name + ": " + describeGrants(granted)}, by)
	})
	return granted, first, err
}

func describeGrants(grants []Grant) string {
	var list []string
	for _, g := range grants {
		list = append(list, g.Repositories.String()+" "+g.Actions.String())
	}
	if len(list) == 0 {
		return "may do nothing"
	}
	return strings.Join(list, "; ")
}

func (t *tx) user(name string) (id int64, err error) {
	err = t.queryRow(t.ctx, `SELECT id FROM users WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: %s", ErrUserUnknown, name)
	}
	return id, err
}

// SetPassword changes the bcrypt hash of a user's password. What was derived from the old one is not valid any more.
func (s *Store) SetPassword(ctx context.Context, name, password string, by Actor) error {
	err := s.changeAccess(ctx, func(t *tx) error {
		id, err := t.user(name)
		if err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE users SET password = ? WHERE id = ?`, password, id); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE user_id = ?`, id); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: AuditUserPassword, Detail: name}, by)
	})
	if err == nil {
		s.forgetAdminPassword(name)
	}
	return err
}

// RemoveUser removes a user with its grants, tokens and sessions.
func (s *Store) RemoveUser(ctx context.Context, name string, by Actor) error {
	err := s.changeAccess(ctx, func(t *tx) error {
		id, err := t.user(name)
		if err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM users WHERE id = ?`, id); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE user_id = ?`, id); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: AuditUserRemove, Detail: name}, by)
	})
	if err == nil {
		s.forgetAdminPassword(name)
	}
	return err
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

// TokenUses returns the last use of every token, as far as it is written.
func (s *Store) TokenUses(ctx context.Context) (map[string]TokenUse, error) {
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
