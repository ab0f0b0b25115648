package store

import (
	"database/sql"
	"errors"

	"github.com/opencontainers/go-digest"
)

// digestID returns the integer id of a digest, making one if it is new.
func (t *tx) digestID(dgst digest.Digest) (int64, error) {
	var id int64
	err := t.queryRow(t.ctx, `SELECT id FROM digests WHERE digest = ?`, dgst.String()).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	return t.insert(`INSERT INTO digests (digest) VALUES (?)`, dgst.String())
}
