package store

import (
	"sync"

	"cubby/store/durable"

	"github.com/opencontainers/go-digest"
)

// rotten remembers which files of blobs Check found to have other bytes than their digest says. They are answered as
// absent until a push replaces them, so that clients, who ask first, do push. It lasts as long as the process: what a
// check found before is served again after a restart, until the next check.
type rotten struct {
	mu    sync.RWMutex
	files map[digest.Digest]durable.Stat // guarded by mu
}

// note remembers what a check found.
func (r *rotten) note(dgst digest.Digest, file durable.Stat, bad bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bad {
		delete(r.files, dgst)
		return
	}
	if r.files == nil {
		r.files = make(map[digest.Digest]durable.Stat)
	}
	r.files[dgst] = file
}

// is reports whether a file of a digest is one that a check found. A blob that is pushed again gets another file.
func (r *rotten) is(dgst digest.Digest, file durable.Stat) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found, ok := r.files[dgst]
	return ok && found == file
}
