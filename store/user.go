package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cubby/store/oci"
)

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

func scanUser(r row) (*User, error) {
	u := &User{}
	var created int64
	err := r.Scan(&u.ID, &u.Name, &u.Password, &created)
	u.CreatedAt = time.Unix(created, 0)
	return u, err
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

// usesLook is how many entries of the audit log are looked at for who was here: a password leaves no other trace.
const usesLook = 20_000

// UserUses returns when and from where users were last here, by name: by a session, by an access token, or as the newest
// part of the audit log says. It takes one statement.
func (s *Store) UserUses(ctx context.Context) (map[string]TokenUse, error) {
	s.settleEvents()
	type use struct {
		name string
		TokenUse
	}
	uses, err := collect(ctx, s.db, func(r row) (u use, err error) {
		var at int64
		err = r.Scan(&u.name, &at, &u.Address)
		u.At = time.Unix(at, 0)
		return u, err
	}, `SELECT u.name, t.last_used, t.last_address FROM tokens t JOIN users u ON u.id = t.user WHERE t.last_used > 0
		UNION ALL SELECT u.name, s.last_used, s.address FROM sessions s JOIN users u ON u.id = s.user_id
		UNION ALL SELECT u.name, max(a.at), a.address FROM (SELECT at, who, action, address FROM audit ORDER BY at DESC, id DESC LIMIT ?) a
			CROSS JOIN users u ON u.name = a.who AND u.created_at <= a.at WHERE a.action <> 'login failed' GROUP BY u.name`, usesLook)
	last := make(map[string]TokenUse)
	for _, u := range uses {
		if u.At.After(last[u.name].At) {
			last[u.name] = u.TokenUse
		}
	}
	return last, err
}
