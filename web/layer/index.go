package layer

import (
	"errors"
	"sync"
	"unsafe"
)

// An Index is what a layer holds. It does not change, and is safe for concurrent use.
type Index struct {
	Format       Format
	Size         int64 // bytes of the blob
	Uncompressed int64 // bytes of the archive, as far as it was read
	Entries      []Entry
	Problem      string // why not all was read, a sentence, or ""
	Unterminated bool   // the archive has no end: it may have been cut between two files

	memory int64 // bytes that the window of a zstd frame may have
	points []point

	once sync.Once // guards tree
	tree *Tree
}

// problem notes what is wrong with the blob. What is not the blob's fault is not noted.
func (x *Index) problem(err error) error {
	if errors.Is(err, ErrNotTar) || errors.Is(err, ErrLimit) || errors.Is(err, ErrDamaged) {
		x.Problem = err.Error()
	}
	return err
}

// SeekPoints returns at how many places decompression can start, beside the beginning.
func (x *Index) SeekPoints() int { return len(x.points) }

// Memory returns about how many bytes it takes, without its Tree.
func (x *Index) Memory() (bytes int64) {
	for i := range x.Entries {
		bytes += entrySize(&x.Entries[i])
	}
	for i := range x.points {
		bytes += int64(unsafe.Sizeof(x.points[i])) + int64(len(x.points[i].window))
	}
	return bytes
}

// Tree returns the files of the layer alone. Whiteouts are files here: they are what the layer holds.
func (x *Index) Tree() *Tree {
	x.once.Do(func() { x.tree = plant([]*Index{x}, false) })
	return x.tree
}

// Dir lists a directory: first directories, then the others, as people order names. Directories that are only implied by
// what lies in them are there. ErrPathUnknown says that there is none.
func (x *Index) Dir(path string) ([]*Node, error) { return x.Tree().Dir(path) }

// Lookup returns what has a path. ErrPathUnknown says that nothing has.
func (x *Index) Lookup(path string) (*Node, error) { return x.Tree().Lookup(path) }
