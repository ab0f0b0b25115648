package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// A floor is what no registry can do better on this machine and disk. What the disk does is measured with each round of the
// workload that it limits, because its moods change; the best counts, as of a server. Zero is not measured.
type floor struct {
	dir  string        // where to write
	each time.Duration // how long to measure

	hash  float64 // of one processor, MB/s
	write float64 // of a large file, with its sync, MB/s
	blobs float64 // small ones made durable by eight threads that speak no HTTP, per second
}

// hashSome measures how fast one processor hashes.
func (f *floor) hashSome() {
	buffer := make([]byte, 1<<20)
	hash := sha256.New()
	began, n := time.Now(), 0
	for ; time.Since(began) < f.each; n++ {
		hash.Write(buffer)
	}
	f.hash = float64(n) * float64(len(buffer)) / 1e6 / time.Since(began).Seconds()
}

// round measures the limit of a workload, if it has one. What it writes stays, because ext4 without a journal looks for a
// minute at each inode that was deleted before it takes another, which would slow down what is measured next.
func (f *floor) round(ctx context.Context, limit string) error {
	if limit == "" {
		return nil
	}
	dir, err := os.MkdirTemp(f.dir, "floor-")
	if err != nil {
		return err
	}
	switch limit {
	case limitWrite:
		took, err := writeLarge(filepath.Join(dir, "large"))
		if err != nil {
			return err
		}
		f.write = max(f.write, largeSize/1e6/took.Seconds())
	case limitBlobs:
		blobs, err := durableBlobs(ctx, dir, f.each)
		if err != nil {
			return err
		}
		f.blobs = max(f.blobs, blobs)
	}
	return nil
}

func (f *floor) print(w io.Writer) error {
	text := fmt.Sprintf("SHA-256 of one processor %.0f MB/s", f.hash)
	if f.write > 0 {
		text += fmt.Sprintf("; 256 MiB written and synced %.0f MB/s", f.write)
	}
	if f.blobs > 0 {
		text += fmt.Sprintf("; %.0f durable blobs of 16 KiB/s without HTTP, that is %.0f images of %d", f.blobs, f.blobs/(imageLayers+1), imageLayers+1)
	}
	_, err := fmt.Fprintf(w, "\nLimits: %s.\n", text)
	return err
}

// writeLarge writes a file of largeSize and returns how long that took.
func writeLarge(path string) (took time.Duration, err error) {
	buffer := make([]byte, 1<<20)
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	began := time.Now()
	for range largeSize / len(buffer) {
		if _, err := f.Write(buffer); err != nil {
			return 0, err
		}
	}
	err = f.Sync()
	return time.Since(began), err
}

// durableBlobs returns how many blobs a second eight threads make durable: write, sync, rename, sync of the directory, and a
// commit that all who wait share. They stay.
func durableBlobs(ctx context.Context, dir string, each time.Duration) (float64, error) {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return 0, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	commits := make(chan chan error, 8)
	var committer sync.WaitGroup
	committer.Go(func() {
		page := make([]byte, 4096)
		for first := range commits {
			waiting := []chan error{first}
			for range len(commits) {
				waiting = append(waiting, <-commits)
			}
			_, err := log.Write(page)
			if err == nil {
				err = log.Sync()
			}
			for _, c := range waiting {
				c <- err
			}
		}
	})
	content := make([]byte, layerSize)
	var next atomic.Int64
	var threads sync.WaitGroup
	errs := make([]error, 8)
	began := time.Now()
	for i := range errs {
		threads.Go(func() {
			done := make(chan error, 1)
			for errs[i] == nil && ctx.Err() == nil && time.Since(began) < each {
				n := next.Add(1)
				errs[i] = durableBlob(dir, n, content)
				if errs[i] == nil {
					commits <- done
					errs[i] = <-done
				}
			}
		})
	}
	threads.Wait()
	took := time.Since(began)
	close(commits)
	committer.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(next.Load()) / took.Seconds(), ctx.Err()
}

func durableBlob(dir string, n int64, content []byte) error {
	name := fmt.Sprintf("blob%d", n)
	f, err := os.Create(filepath.Join(dir, name))
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
	into := filepath.Join(dir, fmt.Sprintf("%02x", n%256))
	if err := os.Rename(f.Name(), filepath.Join(into, name)); err != nil {
		return err
	}
	d, err := os.Open(into)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
