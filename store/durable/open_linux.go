package durable

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// largeFile allows more than 2 GiB on 32-bit systems, where an os.Root does not.
const largeFile = unix.O_LARGEFILE

// openBeneath opens a file for reading in one call: an os.Root opens each directory on the way. It is not handled where
// the kernel, or what stands in front of it, does not know the call.
func openBeneath(dir *os.File, name string) (f *os.File, handled bool, err error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | largeFile, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), true, nil
		case unix.EINTR:
		case unix.ENOSYS, unix.EPERM, unix.EAGAIN, unix.ELOOP:
			// EPERM is what container runtimes say to calls that they do not know; symbolic links within are allowed.
			return nil, false, nil
		default:
			return nil, true, &fs.PathError{Op: "openat2", Path: name, Err: err}
		}
	}
}

// stat takes one call for all but a symbolic link, which may lead out of the directory: an os.Root tells.
func (d *Dir) stat(name string) (Stat, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(int(d.self.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return Stat{}, &fs.PathError{Op: "fstatat", Path: name, Err: err}
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return d.statRoot(name)
		default:
			return Stat{Size: st.Size, device: uint64(st.Dev), inode: uint64(st.Ino), modified: st.Mtim.Nano()}, nil
		}
	}
}
