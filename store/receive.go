package store

import (
	"io"
	"sync"

	"cubby/store/durable"
)

const (
	// uploadBuffer is the memory of a running upload, in bytes.
	uploadBuffer = 64 << 10
	// pipesMax bounds the uploads that write and hash beside receiving: there are no more processors to use.
	pipesMax = 4
	// pipeBuffers of pipeBuffer bytes is what each of these holds more.
	pipeBuffers = 4
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
		n, readErr := fill(r, buffer[:])
		if err := s.write(u, f, buffer[:n]); err != nil {
			return err
		}
		u.hash.Write(buffer[:n])
		if readErr == nil && !piped {
			piped = true
			select {
			case s.uploads.pipes <- struct{}{}: // it is not small
				return s.receivePiped(u, f, r)
			default:
			}
		}
		if readErr != nil {
			return bodyError(readErr)
		}
	}
}

// receivePiped is receive with a goroutine that writes and one that hashes, while more comes. It returns when all have
// ended, and gives back the token of pipes that its caller took.
func (s *Store) receivePiped(u *upload, f *durable.File, r io.Reader) (err error) {
	// A buffer goes round: each channel has room for all.
	free, filled, written := make(chan []byte, pipeBuffers), make(chan []byte, pipeBuffers), make(chan []byte, pipeBuffers)
	for range pipeBuffers {
		free <- make([]byte, pipeBuffer)
	}
	var writeErr error
	broken := make(chan struct{}) // closed when writeErr is set
	var group sync.WaitGroup
	group.Go(func() {
		defer close(written)
		for p := range filled {
			if writeErr = s.write(u, f, p); writeErr != nil {
				close(broken)
				return
			}
			written <- p
		}
	})
	group.Go(func() {
		for p := range written {
			u.hash.Write(p)
			free <- p[:pipeBuffer]
		}
	})
	defer func() {
		close(filled)
		group.Wait()
		<-s.uploads.pipes
		if writeErr != nil {
			err = writeErr
		}
	}()
	for {
		select {
		case <-broken:
			return nil // but for writeErr
		case p := <-free:
			n, readErr := fill(r, p)
			filled <- p[:n]
			if readErr != nil {
				return bodyError(readErr)
			}
		}
	}
}

// bodyError returns what the end of a request's body means: nil for a clean one.
func bodyError(err error) error {
	if err == io.EOF {
		return nil
	}
	return &sourceError{err}
}

// write writes p behind what a session has.
func (s *Store) write(u *upload, f *durable.File, p []byte) error {
	// Asked again and again: a large upload must leave room for the database to commit deletes.
	if err := s.Writable(); err != nil || len(p) == 0 {
		return err
	}
	written, err := f.Write(p)
	if err != nil {
		return err
	}
	s.space.spend(int64(written))
	size := u.size.Add(int64(written))
	u.progress.Store(s.now().Unix())
	if begun := size / writeBackEvery * writeBackEvery; size-int64(written) < begun {
		f.WriteBack(begun-writeBackEvery, writeBackEvery)
	}
	return nil
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
