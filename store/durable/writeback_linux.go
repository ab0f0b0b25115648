package durable

import "golang.org/x/sys/unix"

// WriteBack has the kernel begin to write n bytes from an offset on, so that Sync finds less to do. It promises nothing,
// and tells no errors: Sync tells those.
func (f *File) WriteBack(offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
