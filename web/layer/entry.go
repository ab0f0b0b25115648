package layer

import (
	"path"
	"strings"
	"time"
)

// A Type is what kind of file an entry is.
type Type byte

// Types. TypeOther is one that neither this program nor the clients know: they read it as a file.
const (
	TypeFile     Type = '-'
	TypeDir      Type = 'd'
	TypeSymlink  Type = 'l'
	TypeHardlink Type = 'h'
	TypeChar     Type = 'c'
	TypeBlock    Type = 'b'
	TypeFIFO     Type = 'p'
	TypeOther    Type = '?'
)

// SumSize is how many bytes of a file's SHA-256 are kept: enough that nobody makes two files of one sum.
const SumSize = 16

// An Entry is a file as a layer has it.
type Entry struct {
	Path   string // as it is written: a label, with anything in it
	Link   string // the target of a link, as it is written
	User   string // names of the owner, or ""
	Group  string
	Size   int64 // bytes of content
	Offset int64 // of the content in the archive
	MTime  int64 // seconds since 1970
	UID    int
	GID    int
	Major  int32 // of a device
	Minor  int32
	Mode   uint16 // permission bits, and those of set-user-ID, set-group-ID and sticky
	Xattrs uint16 // how many there are
	Type   Type
	Sparse bool          // stored without its holes
	Sum    [SumSize]byte // of the content; zero when there is none, or it was not read whole

	from int64 // of a sparse file: where in the archive to start reading headers
}

// ModTime returns when the file was modified last.
func (e *Entry) ModTime() time.Time { return time.Unix(e.MTime, 0) }

// HasContent reports whether an entry is a file that can be read; a hard link leads to one.
func (e *Entry) HasContent() bool { return e.Type == TypeFile || e.Type == TypeOther }

// Names that say what a layer takes away from those below it (OCI image layer specification, "Whiteouts").
const (
	whiteout     = ".wh."
	whiteoutMeta = ".wh..wh."
	opaque       = ".wh..wh..opq"
)

// Whiteout returns the cleaned path of what an entry takes away.
func (e *Entry) Whiteout() (string, bool) {
	dir, base := path.Split(Clean(e.Path))
	name, ok := strings.CutPrefix(base, whiteout)
	if !ok || strings.HasPrefix(base, whiteoutMeta) || name == "" || name == "." || name == ".." {
		return "", false
	}
	return dir + name, true
}

// Opaque returns the cleaned path of the directory that an entry empties.
func (e *Entry) Opaque() (string, bool) {
	dir, base := path.Split(Clean(e.Path))
	return strings.TrimSuffix(dir, "/"), base == opaque
}

// isMark reports whether an entry is none of the files: a whiteout, or what AUFS notes for itself.
func (e *Entry) isMark() bool { return strings.HasPrefix(path.Base(Clean(e.Path)), whiteout) }

// Clean returns a path without what does not matter: no slash at its ends, no dots, nothing above the root. The root is
// "".
func Clean(p string) string { return path.Clean("/" + p)[1:] }
