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

// floorTime is how long each limit is measured.
const floorTime = 2 * time.Second

// printFloor measures what no registry can do better on this machine and disk: the hash of one processor, a large file
// written and synced, and small blobs made durable by eight threads that speak no HTTP.
func printFloor(ctx context.Context, w io.Writer, dir string) error {
	buffer := make([]byte, 1<<20)
	hash := sha256.New()
	began, n := time.Now(), 0
	for ; time.Since(began) < floorTime; n++ {
		hash.Write(buffer)
	}
	hashed := float64(n) * float64(len(buffer)) / 1e6 / time.Since(began).Seconds()

	path := filepath.Join(dir, "floor")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	began = time.Now()
	for range largeSize / len(buffer) {
		if _, err = f.Write(buffer); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	wrote := largeSize / 1e6 / time.Since(began).Seconds()
	f.Close()
	os.Remove(path)
	if err != nil {
		return err
	}
	blobs, err := durableBlobs(ctx, filepath.Join(dir, "floors"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Limits: SHA-256 of one processor %.0f MB/s; 256 MiB written and synced %.0f MB/s; %.0f durable blobs of 16 KiB/s without HTTP, that is %.0f images of %d.\n\n",
		hashed, wrote, blobs, blobs/(imageLayers+1), imageLayers+1)
	return err
}

// durableBlobs returns how many blobs a second eight threads make durable: write, sync, rename, sync of the directory, and a
// commit that all who wait share.
func durableBlobs(ctx context.Context, dir string) (float64, error) {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return 0, err
		}
	}
	defer os.RemoveAll(dir)
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
			for errs[i] == nil && ctx.Err() == nil && time.Since(began) < floorTime {
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
