//go:build !linux

package durable

// WriteBack does nothing here.
func (f *File) WriteBack(offset, n int64) {}
