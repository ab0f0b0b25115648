package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"cubby/store"

	"golang.org/x/crypto/bcrypt"
)

// An Htpasswd is a file of users as registry:2 has it: a name, a colon and a bcrypt hash on each line. It is read again
// when it changes; one that is not valid changes nothing.
type Htpasswd struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	checked time.Time         // guarded by mu
	empty   bool              // guarded by mu; it was when last looked at
	problem string            // guarded by mu; what the log was last told, "" when all is well
	text    []byte            // guarded by mu; as last read, valid or not
	users   map[string]string // guarded by mu; never changed, only replaced
}

// htpasswdEvery is how often the file is looked at.
const htpasswdEvery = 2 * time.Second

// htpasswdCostMax bounds the cost of a hash: one more doubles the time of every login.
const htpasswdCostMax = 14

// OpenHtpasswd reads a file of users. An error names the line.
func OpenHtpasswd(path string, log *slog.Logger) (*Htpasswd, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("htpasswd: %w", err)
	}
	users, err := parseHtpasswd(text)
	if err == nil && len(users) == 0 {
		err = errors.New("it has no users")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Htpasswd{path: path, log: log, checked: time.Now(), text: text, users: users}, nil
}

// Users returns the bcrypt hashes by name. The caller must not change the map.
func (h *Htpasswd) Users() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) >= htpasswdEvery {
		h.reload()
	}
	return h.users
}

// reload reads the file again. The caller holds mu.
func (h *Htpasswd) reload() {
	h.checked = time.Now()
	text, err := os.ReadFile(h.path)
	if err == nil && h.text != nil && bytes.Equal(text, h.text) {
		return
	}
	var users map[string]string
	if err == nil {
		h.text = text
		users, err = parseHtpasswd(text)
	}
	if err == nil && len(users) == 0 && !h.empty {
		// As a file that is just being written: believed when it is still so at the next look.
		h.empty, h.text = true, nil
		return
	}
	h.empty = false
	if err != nil {
		if h.problem == err.Error() {
			return
		}
		h.problem = err.Error()
		h.log.Error("htpasswd file not taken over, the users of before stay", "file", h.path, "err", err)
		return
	}
	h.users, h.problem = users, ""
	h.log.Info("htpasswd file taken over", "file", h.path, "users", len(users))
}

func parseHtpasswd(text []byte) (map[string]string, error) {
	users := make(map[string]string)
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d is not of the form NAME:HASH", i+1)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil || len(hash) != 60 {
			return nil, fmt.Errorf("line %d: %s has no bcrypt hash; make it with htpasswd -B", i+1, name)
		}
		if cost > htpasswdCostMax {
			return nil, fmt.Errorf("line %d: the hash of %s has cost %d, at most %d is taken", i+1, name, cost, htpasswdCostMax)
		}
		if err := store.CheckUserName(name); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		users[name] = hash
	}
	return users, nil
}
