package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// layersName is the repository with the layers, and layersLooks how many directories and files are asked for.
const (
	layersName  = "bench/layers"
	layersLooks = 300
)

// layers pushes an archive as a layer in gzip and in zstd, looks into both, and prints how long the first look takes, and
// how long directories and files take after it.
func layers(ctx context.Context, w io.Writer, dir, tarFile string) error {
	raw, err := layerArchive(tarFile)
	if err != nil {
		return err
	}
	files, dirs, err := listArchive(raw)
	if err != nil {
		return err
	}
	dir, err = os.MkdirTemp(dir, "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(ctx, store.Options{Dir: dir, Role: store.RoleServe, Create: true})
	if err != nil {
		return err
	}
	defer st.Close()
	url, stop, err := servePages(st)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(w, "%d MB, %d files in %d directories\n\n", len(raw)/1e6, len(files), len(dirs))
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "LAYER\tMB\tFIRST LOOK\tWHAT\tP50\tP95\tMOST")
	for _, kind := range []struct {
		name string
		pack func([]byte) ([]byte, error)
	}{{"gzip", packGzip}, {"zstd, one frame", packZstd}} {
		packed, err := kind.pack(raw)
		if err != nil {
			return err
		}
		dgst, err := pushBlob(ctx, st, layersName, packed)
		if err != nil {
			return err
		}
		root := url + "/" + layersName + "/-/blob/" + dgst.String() + "/files/"
		first, err := firstLook(ctx, root)
		if err != nil {
			return err
		}
		for _, what := range []struct {
			name  string
			paths []string
		}{{"directory", dirs}, {"file", files}} {
			times, err := lookAt(ctx, root, what.paths)
			if err != nil {
				return err
			}
			n := len(times)
			fmt.Fprintf(out, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", kind.name, len(packed)/1e6, round(first), what.name, round(times[n/2]), round(times[n*95/100]), round(times[n-1]))
		}
	}
	return out.Flush()
}

// layerArchive returns a file, or an archive of about 100 MB of texts and noise.
func layerArchive(tarFile string) ([]byte, error) {
	if tarFile != "" {
		return os.ReadFile(tarFile)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 10_000 {
		content := make([]byte, random.IntN(20_000))
		for j := range content {
			if content[j] = byte('a' + random.IntN(4)); i%4 == 0 {
				content[j] = byte(random.Uint32())
			}
		}
		h := &tar.Header{Name: fmt.Sprintf("usr/lib/package-%d/part%d/file-%d", i/100, i/10%10, i), Mode: 0o644, Size: int64(len(content))}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// listArchive returns the cleaned paths of the files of an archive, and of the directories that they are in.
func listArchive(raw []byte) (files, dirs []string, err error) {
	seen := make(map[string]bool)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, dirs, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if p := path.Clean("/" + h.Name)[1:]; h.Typeflag == tar.TypeReg {
			files = append(files, p)
			if d := path.Dir(p); d != "." && !seen[d] {
				seen[d] = true
				dirs = append(dirs, d)
			}
		}
	}
}

func packGzip(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	err := w.Close()
	return b.Bytes(), err
}

func packZstd(raw []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(raw, nil), nil
}

func pushBlob(ctx context.Context, st *store.Store, repo string, content []byte) (digest.Digest, error) {
	name, err := oci.ParseName(repo)
	if err != nil {
		return "", err
	}
	dgst := oci.SumDigest(digest.SHA256, content)
	id, err := st.StartUpload(name, "bench", digest.SHA256)
	if err != nil {
		return "", err
	}
	return dgst, st.FinishUpload(ctx, name, "bench", id, 0, bytes.NewReader(content), dgst)
}

// firstLook asks for the root until its page no longer says that it is waited for.
func firstLook(ctx context.Context, root string) (time.Duration, error) {
	began := time.Now()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, root, nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return 0, err
		}
		if res.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s", root, res.Status)
		}
		if res.Header.Get("Refresh") == "" {
			if !strings.Contains(string(body), "<table") {
				return 0, fmt.Errorf("%s lists nothing", root)
			}
			return time.Since(began), nil
		}
	}
}

// lookAt asks once for some of the paths, the first and the last among them, and returns the times, sorted.
func lookAt(ctx context.Context, root string, paths []string) (times []time.Duration, err error) {
	random := rand.New(rand.NewPCG(3, 4))
	chosen := []string{paths[0], paths[len(paths)-1]}
	for range layersLooks - len(chosen) {
		chosen = append(chosen, paths[random.IntN(len(paths))])
	}
	for _, p := range chosen {
		began := time.Now()
		if _, err := fetch(ctx, http.DefaultClient, root+strings.ReplaceAll(p, "%", "%25"), "gzip"); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times, nil
}
