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
	if err := c.setAnonymous(ctx, st, by); err != nil || c.ReadOnly {
		return "", err
	}
	if err := st.SetSetting(SettingHost, clientHost(c.Listeners)); err != nil {
		return "", err
	}
	if len(st.Access().Users) > 0 || c.Htpasswd || allLoopback(c.Listeners) {
		return "", nil
	}
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("admin-password-file: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
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
	all, err := oci.ParseGlob("**")
	if err != nil {
		return "", err
	}
	if err := st.AddUser(ctx, store.FirstUser, hash, []store.Grant{{Repositories: all, Actions: store.ActionAdmin}}, by); err != nil {
		return "", err
	}
	if c.PasswordFile != "" {
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
	if want != now {
		if err := st.SetAnonymous(ctx, store.Grant{Repositories: all, Actions: want}, by); err != nil {
			return err
		}
	}
	remember := ""
	if c.Anonymous != "" {
		remember = want.String()
	}
	if c.ReadOnly || remember == before {
		return nil
	}
	return st.SetSetting(settingAnonymous, remember)
}

func allLoopback(listeners []net.Listener) bool {
	return !slices.ContainsFunc(listeners, func(l net.Listener) bool {
		addr, ok := l.Addr().(*net.TCPAddr)
		return !ok || !addr.IP.IsLoopback()
	})
}

// clientHost returns HOST:PORT as clients write it.
func clientHost(listeners []net.Listener) string {
	host, port, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		return listeners[0].Addr().String()
	}
	switch ip := net.ParseIP(host); {
	case ip != nil && ip.IsLoopback():
		host = "localhost"
	case ip != nil && ip.IsUnspecified():
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}
