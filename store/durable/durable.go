// Package durable is the one way this program changes files that must survive a power cut. It wraps an *os.Root, so
// that no name can leave the data directory, and gives every step a place where tests can fail it or cut the power.
//
// What each step survives, measured on ext4: write and rename without Sync leave a name with 0 bytes; Sync and Rename
// without SyncDir lose the name. A failed Sync must never be repeated: the kernel reports a write-back error once and
// drops the pages, so a second Sync would succeed over lost bytes.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// A Step names one operation on the disk, for fault hooks.
type Step string

// The steps, in the order in which storing a blob takes them.
const (
	StepCreate   Step = "create"
	StepWrite    Step = "write"
	StepTruncate Step = "truncate"
	StepSync     Step = "sync"
	StepRename   Step = "rename"
	StepSyncDir  Step = "syncdir"
	StepRemove   Step = "remove"
	StepMkdir    Step = "mkdir"
	StepCommit   Step = "commit" // of a database's transaction
)

// A Hook runs before each step; its error becomes the step's. It may also end the process. With io.ErrShortWrite a write
// does half of its work.
type Hook func(step Step, name string) error

// A Dir is a directory tree whose changes are durable. It is safe for concurrent use.
type Dir struct {
	root  *os.Root
	self  *os.File           // root as a file
	hook  Hook               // nil outside tests
	after func(Step, string) // runs after each step, too; nil outside tests
}

// Open returns the directory at path, which must exist.
func Open(path string, hook Hook) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	d := &Dir{root: root, self: self, hook: hook}
	if hook == nil {
		d.hook, d.after = processHooks(path)
	}
	return d, nil
}

// Close releases the directory. Open files stay valid.
func (d *Dir) Close() error { return errors.Join(d.self.Close(), d.root.Close()) }

// Open opens a file for reading.
func (d *Dir) Open(name string) (*os.File, error) {
	if f, handled, err := openBeneath(d.self, name); handled {
		return f, err
	}
	return d.root.OpenFile(name, os.O_RDONLY|largeFile, 0)
}

// A Stat is what the file system knows of a file. Two are equal when they are of the same file with the same content, as
// far as its time of modification tells.
type Stat struct {
	Size int64 // bytes

	device, inode uint64
	modified      int64 // unix nanoseconds
}

// Stat looks at a file without opening it, which takes a third of the time. Unlike Open it does not mind who may read the
// file, nor a directory on the way that is a symbolic link out of this one: it tells of it no more than this.
func (d *Dir) Stat(name string) (Stat, error) { return d.stat(name) }

func (d *Dir) statRoot(name string) (Stat, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return Stat{}, err
	}
	return StatOf(info), nil
}

// StatOf returns what is known of a file that was looked at in another way.
func StatOf(info fs.FileInfo) Stat {
	s := Stat{Size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode = uint64(st.Dev), uint64(st.Ino)
	}
	return s
}

// Root gives read access to the tree. Changes go through Dir.
func (d *Dir) Root() *os.Root { return d.root }

// do takes a step between its hooks.
func (d *Dir) do(step Step, name string, take func() error) error {
	if d.hook == nil {
		return take()
	}
	if err := d.hook(step, name); err != nil {
		return &fs.PathError{Op: string(step), Path: name, Err: err}
	}
	err := take()
	if d.after != nil {
		d.after(step, name)
	}
	return err
}

// A File is a file being written. The caller closes it.
type File struct {
	*os.File
	dir  *Dir
	name string
}

// Create makes a new file, mode 0600. It fails if the name exists.
func (d *Dir) Create(name string) (*File, error) {
	return d.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

// Append opens an existing file for writing at offset, cutting off what lies behind it.
func (d *Dir) Append(name string, offset int64) (*File, error) {
	f, err := d.open(name, os.O_WRONLY)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(offset); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Dir) open(name string, flag int) (f *File, err error) {
	err = d.do(StepCreate, name, func() error {
		file, err := d.root.OpenFile(name, flag|largeFile, 0o600)
		f = &File{File: file, dir: d, name: name}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Write writes p at the end of the file.
func (f *File) Write(p []byte) (n int, err error) {
	err = f.dir.do(StepWrite, f.name, func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	if f.dir.hook != nil && n == 0 && errors.Is(err, io.ErrShortWrite) { // the hook's: half of it reaches the disk
		n, _ = f.File.Write(p[:len(p)/2])
	}
	return n, err
}

// ReadFrom hides the embedded file's method, which would pass by Write and its hook.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{f}, r)
}

// Truncate cuts the file to size bytes.
func (f *File) Truncate(size int64) error {
	return f.dir.do(StepTruncate, f.name, func() error { return f.File.Truncate(size) })
}

// Sync makes the bytes survive a power cut; the name needs SyncDir. After an error the file must be given up.
func (f *File) Sync() error {
	return f.dir.do(StepSync, f.name, f.File.Sync)
}

// Rename moves a file over to, atomically. It survives a power cut only after SyncDir of to's directory.
func (d *Dir) Rename(from, to string) error {
	return d.do(StepRename, to, func() error { return d.root.Rename(from, to) })
}

// SyncDir makes the names in a directory survive a power cut.
func (d *Dir) SyncDir(name string) error {
	return d.do(StepSyncDir, name, func() error {
		f, err := d.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// Remove unlinks a file or an empty directory. A name that is not there is no error.
func (d *Dir) Remove(name string) error {
	return d.do(StepRemove, name, func() error { return unless(d.root.Remove(name), fs.ErrNotExist) })
}

// Mkdir makes a directory, mode 0700. One that is there already is no error.
func (d *Dir) Mkdir(name string) error {
	return d.do(StepMkdir, name, func() error { return unless(d.root.Mkdir(name, 0o700), fs.ErrExist) })
}

// unless returns err, or nil when it is what was wanted anyway.
func unless(err, wanted error) error {
	if errors.Is(err, wanted) {
		return nil
	}
	return err
}

// Commit runs the commit of a transaction on the database name as a step.
func (d *Dir) Commit(name string, commit func() error) error {
	return d.do(StepCommit, name, commit)
}

// WriteFile replaces a small file so that after a crash it has either its old or its new content.
func (d *Dir) WriteFile(name, parent string, content []byte) error {
	temp := name + ".new"
	if err := d.Remove(temp); err != nil {
		return err
	}
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := d.Rename(temp, name); err != nil {
		return err
	}
	return d.SyncDir(parent)
}

// IsFull reports whether an error says that the disk or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Free returns the bytes an unprivileged user may still write to the file system that holds the directory, and its
// whole size.
func (d *Dir) Free() (free, total int64, err error) {
	return freeOf(d.self)
}

func freeOf(f *os.File) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", f.Name(), err)
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}
