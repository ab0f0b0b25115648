package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A PresentBlob is a blob that a repository was seen to have.
type PresentBlob struct {
	Digest digest.Digest
	Size   int64 // bytes

	file durable.Stat
}

// SameFile reports whether both are the same file with the same content: a blob that is pushed again gets another file.
func (b PresentBlob) SameFile(o PresentBlob) bool {
	return b.file != durable.Stat{} && b.file == o.file
}

// Present returns those of some blobs that a repository has, as OpenBlob has them. It takes one statement, and a look at
// each file.
func (s *Store) Present(ctx context.Context, name oci.Name, blobs []digest.Digest) (map[digest.Digest]PresentBlob, error) {
	list, err := json.Marshal(blobs)
	if err != nil {
		return nil, err
	}
	rows, err := collect(ctx, s.db, func(r row) (b PresentBlob, err error) {
		return b, r.Scan(&b.Digest, &b.Size)
	}, `SELECT d.digest, b.size FROM json_each(?1) j JOIN digests d ON d.digest = j.value
		JOIN repositories r ON r.name = ?2 JOIN repository_blobs rb ON rb.repository = r.id AND rb.blob = d.id
		JOIN blobs b ON b.digest = d.id`, string(list), name.String())
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest]PresentBlob)
	for _, b := range rows {
		b.file, err = s.blobs.Stat(blobPath(b.Digest))
		if errors.Is(err, fs.ErrNotExist) || err == nil && (b.file.Size != b.Size || s.rotten.is(b.Digest, b.file)) {
			continue // OpenBlob tells the log when somebody wants it
		}
		if err != nil {
			return nil, err
		}
		all[b.Digest] = b
	}
	return all, nil
}

// OpenPresent opens a blob that was present a moment ago, without asking the database again. It is ErrBlobUnknown when its
// file went or was replaced meanwhile. The caller closes it.
func (s *Store) OpenPresent(b PresentBlob) (*Blob, error) {
	f, err := s.openBlobFile(b.Digest, b.Size)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", b.Digest, err)
	}
	info, err := f.Stat()
	if err == nil && !b.SameFile(PresentBlob{file: durable.StatOf(info)}) {
		err = ErrBlobUnknown
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("blob %s: %w", b.Digest, err)
	}
	return &Blob{File: f, Digest: b.Digest, Size: b.Size}, nil
}
