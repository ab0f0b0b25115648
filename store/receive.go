package store

import (
	"io"

	"cubby/store/durable"
)

const (
	// uploadBuffer is the memory of a running upload, in bytes.
	uploadBuffer = 64 << 10
	// pipesMax bounds the uploads that hash beside writing: there are no more processors to use.
	pipesMax = 4
	// pipeBuffers of pipeBuffer bytes is what each of these holds more.
	pipeBuffers = 3
	pipeBuffer  = 256 << 10
	// writeBackEvery is how many bytes are written before the disk begins with them: the sync at the end, for which the
	// client waits, is short then.
	writeBackEvery = 8 << 20
)

// A sourceError is an error of the request's body, as opposed to one of the disk. It is ErrReceive.
type sourceError struct{ err error }

func (e *sourceError) Error() string   { return ErrReceive.Error() + ": " + e.err.Error() }
func (e *sourceError) Unwrap() []error { return []error{ErrReceive, e.err} }

// receive copies r into the file and the hash. Size and hash count only bytes that were written.
func (s *Store) receive(u *upload, f *durable.File, r io.Reader) error {
	buffer := s.uploads.buffer()
	defer s.uploads.buffers.Put(buffer)
	for piped := false; ; {
		n, err := s.receiveSome(u, f, r, buffer[:])
		u.hash.Write(buffer[:n])
		if err == nil && !piped {
			piped = true
			select {
			case s.uploads.pipes <- struct{}{}: // it is not small
				err = s.receivePiped(u, f, r)
			default:
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receivePiped is receive with a goroutine that hashes what was written while more comes. It returns when both have
// ended, with io.EOF when all is well, and gives back the token of pipes that its caller took.
func (s *Store) receivePiped(u *upload, f *durable.File, r io.Reader) (err error) {
	written, free, hashed := make(chan []byte, pipeBuffers), make(chan []byte, pipeBuffers), make(chan struct{})
	for range pipeBuffers {
		free <- make([]byte, pipeBuffer)
	}
	defer func() {
		close(written)
		<-hashed
		<-s.uploads.pipes
	}()
	go func() {
		defer close(hashed)
		for p := range written {
			u.hash.Write(p)
			free <- p[:pipeBuffer]
		}
	}()
	for err == nil {
		p := <-free
		var n int
		n, err = s.receiveSome(u, f, r, p)
		written <- p[:n]
	}
	return err
}

// receiveSome fills p from r and writes it. It returns how much was written, and io.EOF when nothing follows.
func (s *Store) receiveSome(u *upload, f *durable.File, r io.Reader, p []byte) (written int, err error) {
	// Asked again and again: a large upload must leave room for the database to commit deletes.
	if err := s.Writable(); err != nil {
		return 0, err
	}
	n, readErr := fill(r, p)
	if n > 0 {
		if written, err = f.Write(p[:n]); err != nil {
			return 0, err
		}
		s.space.spend(int64(written))
		size := u.size.Add(int64(written))
		u.progress.Store(s.now().Unix())
		if begun := size / writeBackEvery * writeBackEvery; size-int64(written) < begun {
			f.WriteBack(begun-writeBackEvery, writeBackEvery)
		}
	}
	if readErr != nil && readErr != io.EOF {
		readErr = &sourceError{readErr}
	}
	return written, readErr
}

// fill reads until p is full or r ends. Unlike io.ReadFull it keeps a clean end (io.EOF) apart from a body that was
// cut, for which net/http returns io.ErrUnexpectedEOF.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
