package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrNotOwner refuses to touch the store of another user.
var ErrNotOwner = errors.New("not the owner of the store")

// DataHome is cubby's directory in the user's XDG data home.
func DataHome() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cubby"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "cubby"), nil
}

// Find returns the data directory that an administrative command is about. Named by flag or variable it is taken
// as it is; otherwise exactly one of the usual places must hold a store.
func Find(flag string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	var places, found []string
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		places = append(places, dir)
	}
	if dir, err := DataHome(); err == nil {
		places = append(places, dir)
	}
	for _, dir := range append(places, "/var/lib/cubby", "/data") {
		if !slices.Contains(places, dir) {
			places = append(places, dir)
		}
		// A directory we may not look into counts: BecomeOwner says whose it is.
		if _, err := os.Stat(filepath.Join(dir, fileDB)); (err == nil || errors.Is(err, fs.ErrPermission)) && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("found no store in %s; name it with --data", strings.Join(places, ", "))
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("found stores in %s; name one with --data", strings.Join(found, ", "))
}

// BecomeOwner makes root act as the owner of the store, so that it leaves no files behind that the server cannot read.
// Anybody else who is not the owner gets ErrNotOwner.
func BecomeOwner(dir string) error {
	info, err := os.Stat(filepath.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		info, err = os.Stat(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // opening it says what is wrong
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		owner := strconv.Itoa(int(st.Uid))
		if u, err := user.LookupId(owner); err == nil {
			owner = u.Username
		}
		return fmt.Errorf("%w: the one in %s belongs to user %s; run this as %s or as root", ErrNotOwner, dir, owner, owner)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("become owner of %s: %w", dir, err)
	}
	if err := syscall.Setgid(int(st.Gid)); err != nil {
		return fmt.Errorf("become owner of %s: %w", dir, err)
	}
	if err := syscall.Setuid(int(st.Uid)); err != nil {
		return fmt.Errorf("become owner of %s: %w", dir, err)
	}
	return nil
}

// BecomeOwnerOfExisting is BecomeOwner for a server started by root: only where somebody's store is already. It must not
// leave files in it that its owner cannot read later. An empty directory of somebody else becomes root's store, and
// everybody else finds out by trying whether they may write.
func BecomeOwnerOfExisting(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, fileDB)); err != nil || os.Geteuid() != 0 {
		return nil
	}
	return BecomeOwner(dir)
}
