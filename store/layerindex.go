package store

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"cubby/store/durable"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// An index of a layer is what somebody found out about a blob and does not want to find out again. It lies below index/,
// is no part of a backup, and goes with its blob. Losing one loses nothing.

// layerIndexPath returns where the index of a blob lies, in the data directory.
func layerIndexPath(dgst digest.Digest) string {
	return dirIndex + "/" + dgst.Algorithm().String() + "-" + dgst.Encoded()
}

// LayerIndex returns what PutLayerIndex kept for a blob, or nil when there is nothing. Whoever asks has checked that the
// viewer may read the blob. What is on the disk may be damaged: the caller finds that out.
func (s *Store) LayerIndex(dgst digest.Digest) ([]byte, error) {
	b, err := s.data.Root().ReadFile(layerIndexPath(dgst))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// PutLayerIndex keeps what was found out about an open blob, instead of what was kept before. It is ErrBlobUnknown when no
// repository has the blob any more or its file was replaced since it was opened: then it may have been damaged. It is ErrFull
// or ErrReadOnly when nothing can be kept.
func (s *Store) PutLayerIndex(ctx context.Context, b *Blob, index []byte) error {
	if err := s.Writable(); err != nil {
		return err
	}
	dgst := b.Digest
	// With the lock, so that a blob that goes or is replaced takes with it what is written now.
	unlock := s.digests.lock(dgst)
	defer unlock()
	there, err := s.hasBlobRow(ctx, dgst)
	if err != nil {
		return err
	}
	opened, err := b.Stat()
	if err != nil {
		return err
	}
	now, err := s.blobs.Stat(blobPath(dgst))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !there || err != nil || durable.StatOf(opened) != now {
		return ErrBlobUnknown
	}
	if err := s.data.Mkdir(dirIndex); err != nil {
		return err
	}
	s.space.spend(int64(len(index)))
	return s.data.WriteFile(layerIndexPath(dgst), dirIndex, index)
}

// dropLayerIndex removes what is kept for a blob that goes, or whose file is replaced: what was found out may have been
// about a damaged one. The caller holds the digest's lock. A file that stays is swept later.
func (s *Store) dropLayerIndex(dgst digest.Digest) {
	path := layerIndexPath(dgst)
	if _, err := s.data.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := s.data.Remove(path); err != nil {
		s.log.Warn("index of a layer left behind", "digest", dgst, "err", err)
	}
}

// layerIndexPart ends the name of what a crash may have left of an index.
const layerIndexPart = ".new"

// eachLayerIndex calls f for the files below index/ that are indexes, or parts of one. What somebody else has put there is
// not ours.
func (s *Store) eachLayerIndex(f func(name string, dgst digest.Digest, info fs.FileInfo) error) error {
	entries, err := fs.ReadDir(s.data.Root().FS(), dirIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return err
		}
		dgst, err := oci.ParseDigest(strings.Replace(strings.TrimSuffix(e.Name(), layerIndexPart), "-", ":", 1))
		if err != nil {
			continue
		}
		if err := f(e.Name(), dgst, info); err != nil {
			return err
		}
	}
	return nil
}

// sweepLayerIndexes removes what belongs to no blob.
func (s *Store) sweepLayerIndexes(ctx context.Context, before time.Time) error {
	return s.eachLayerIndex(func(name string, dgst digest.Digest, info fs.FileInfo) error {
		if info.ModTime().After(before) {
			return nil
		}
		unlock := s.digests.lock(dgst)
		defer unlock()
		there, err := s.hasBlobRow(ctx, dgst)
		if err != nil || there && !strings.HasSuffix(name, layerIndexPart) {
			return err
		}
		return s.data.Remove(dirIndex + "/" + name)
	})
}

// layerIndexBytes returns what all of them take.
func (s *Store) layerIndexBytes() (bytes int64, err error) {
	err = s.eachLayerIndex(func(_ string, _ digest.Digest, info fs.FileInfo) error {
		bytes += info.Size()
		return nil
	})
	return bytes, err
}
