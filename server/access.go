package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// settingAnonymous is where the store remembers what --anonymous of the last start set.
const settingAnonymous = "anonymous"

// FirstAccess is what a server is started with that says who may do what.
type FirstAccess struct {
	Listeners    []net.Listener
	Anonymous    string // none, pull, push, or "" as it was
	PasswordFile string // of the first user; "" to make one up
	Htpasswd     bool   // there are users besides those of the store
	ReadOnly     bool
}

// SettleAccess settles who may do what before anybody is served. On a network somebody must be able to log in: if nobody
// is, it makes the user store.FirstUser, and returns its password if it was made up.
func SettleAccess(ctx context.Context, st *store.Store, c FirstAccess) (password string, err error) {
	by := store.Actor{Name: "serve", Address: "command line"}
	// What can fail comes first: a start that is refused changes nothing.
	chosen := ""
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("admin-password-file: %w", err)
		}
		chosen = strings.TrimRight(string(text), "\r\n")
		if _, err := auth.HashPassword(chosen); err != nil {
			return "", fmt.Errorf("admin-password-file: %w", err)
		}
	}
	if err := c.setAnonymous(ctx, st, by); err != nil || c.ReadOnly {
		return "", err
	}
	if err := st.SetSetting(SettingHost, clientHost(c.Listeners)); err != nil {
		return "", err
	}
	if len(st.Access().Users) > 0 || c.Htpasswd || AllLoopback(c.Listeners) {
		return "", nil
	}
	if password = chosen; password != "" {
		// Nothing is kept: the operator has it.
	} else {
		password = strings.ToLower(rand.Text()[:20])
		// The file first: a user whose password nobody knows is none.
		if err := st.WriteAdminPassword(password); err != nil {
			return "", err
		}
	}
	hash, err := auth.HashPassword(password)
	if err != nil {
		return "", fmt.Errorf("password of admin: %w", err)
	}
	if _, _, err := st.AddUser(ctx, store.FirstUser, hash, nil, by); err != nil {
		return "", err
	}
	if chosen != "" {
		return "", nil
	}
	return password, nil
}

// setAnonymous makes --anonymous what everybody may do to all repositories. When it is not given any more, what it set
// ends, unless it was changed meanwhile.
func (c FirstAccess) setAnonymous(ctx context.Context, st *store.Store, by store.Actor) error {
	all, err := oci.ParseGlob("**")
	if err != nil {
		return err
	}
	now := store.Actions(0)
	for _, g := range st.Access().Anonymous {
		if g.Repositories == all {
			now = g.Actions
		}
	}
	before, err := st.Setting(ctx, settingAnonymous)
	if err != nil {
		return err
	}
	want := now
	if c.Anonymous != "" {
		if want, err = auth.ParseAnonymous(c.Anonymous); err != nil {
			return err
		}
	} else if before != "" && before == now.String() {
		want = 0
	}
	if c.ReadOnly {
		st.OpenInMemory(store.Grant{Repositories: all, Actions: want}, c.Anonymous == "none")
		return nil
	}
	if c.Anonymous == "none" && len(st.Access().Anonymous) > 0 {
		if err := st.ClearAnonymous(ctx, by); err != nil {
			return err
		}
	} else if want != now {
		if err := st.SetAnonymous(ctx, store.Grant{Repositories: all, Actions: want}, by); err != nil {
			return err
		}
	}
	remember := ""
	if c.Anonymous != "" {
		remember = want.String()
	}
	if remember == before {
		return nil
	}
	return st.SetSetting(settingAnonymous, remember)
}

// AllLoopback reports whether only this machine reaches the listeners.
func AllLoopback(listeners []net.Listener) bool {
	return !slices.ContainsFunc(listeners, func(l net.Listener) bool {
		addr, ok := l.Addr().(*net.TCPAddr)
		return !ok || !addr.IP.IsLoopback()
	})
}

// clientHost returns HOST:PORT as clients write it: localhost when that is what it listens on.
func clientHost(listeners []net.Listener) string {
	host, port, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		return listeners[0].Addr().String()
	}
	switch ip := net.ParseIP(host); {
	case ip == nil:
	case ip.IsUnspecified():
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	case host == loopback[0] && slices.ContainsFunc(listeners, func(l net.Listener) bool { return l.Addr().String() == net.JoinHostPort(loopback[1], port) }):
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
