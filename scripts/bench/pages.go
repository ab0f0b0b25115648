package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
	"cubby/web"

	"github.com/opencontainers/go-digest"
)

const (
	pageClients  = 2
	pageRequests = 200 // of each page
	largeName    = "large/api"
)

// pages fills a store and prints what each kind of page costs over loopback, with two clients that ask for it at once.
func pages(ctx context.Context, w io.Writer, dir string, repositories, tags int) error {
	dir, err := os.MkdirTemp(dir, "cubby-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(ctx, store.Options{Dir: dir, Role: store.RoleServe, Create: true})
	if err != nil {
		return err
	}
	defer st.Close()
	began := time.Now()
	if err := fillPages(ctx, st, repositories, tags); err != nil {
		return err
	}
	fmt.Fprintf(w, "filled with %d repositories and %d tags in %s; %d requests of each page by %d clients\n\n", repositories, tags, round(time.Since(began)), pageRequests, pageClients)

	url, stop, err := servePages(st)
	if err != nil {
		return err
	}
	defer stop()
	return measurePages(ctx, w, st, url)
}

// servePages serves the pages of a store on a loopback address until stop is called.
func servePages(st *store.Store) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	guard := auth.New(auth.Options{Store: st})
	handler := web.New(web.Config{
		Store: st, Guard: guard, Version: "bench", Collector: noCollector{},
		Keep: func(oci.Name) (untagged, used time.Duration) { return 7 * day, 30 * day },
	})
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := guard.IdentifyPage(r)
		handler.ServePage(w, r, who, err)
	})}
	go func() { _ = srv.Serve(l) }() // until it is closed
	return "http://" + l.Addr().String(), func() { srv.Close(); handler.Close() }, nil
}

func measurePages(ctx context.Context, w io.Writer, st *store.Store, url string) error {
	name, err := oci.ParseName(largeName)
	if err != nil {
		return err
	}
	all, err := st.Tags(ctx, name, "", 1)
	if err != nil || len(all) == 0 {
		return fmt.Errorf("%s has no tags, %w", largeName, err)
	}
	large := "/" + largeName
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "PAGE\tP50\tP95\tMOST\tBYTES\tCOMPRESSED\tSTATEMENTS")
	for _, p := range []struct{ what, path string }{
		{"repositories", "/"},
		{"repositories, by pulls", "/?sort=-pulls"},
		{"repositories, filtered", "/?q=team-7*"},
		{"namespace", "/team-7/"},
		{"repository", "/team-7/r7"},
		{"repository, filtered", "/team-7/r7?q=1.*"},
		{"large repository", large},
		{"large, oldest first", large + "?sort=pushed"},
		{"large, by name", large + "?sort=name"},
		{"large, by last pull", large + "?sort=-used"},
		{"large, by pulls", large + "?sort=-pulls"},
		{"large, filtered", large + "?q=99"},
		{"large, one platform", large + "?platform=linux/arm64"},
		{"large, manifests", large + "/-/manifests"},
		{"large, manifests held by nothing", large + "/-/manifests?show=untagged"},
		{"large, history", large + "/-/history"},
		{"manifest", large + ":" + all[0]},
		{"manifest, raw", large + ":" + all[0] + "/-/raw"},
		{"search, found", "/-/search?q=r77"},
		{"search, a label found", "/-/search?q=n=1234"},
		{"search, not found", "/-/search?q=nothinglikeit"},
		{"storage", "/-/storage"},
		{"delete, preview", large + ":" + all[0] + "/-/delete"},
		{"no such repository", "/team-7/none"},
		{"help", "/-/help"},
	} {
		m, err := measurePage(ctx, st, url+p.path)
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		n := len(m.times)
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%d\t%d\t%.1f\n", p.what, round(m.times[n/2]), round(m.times[n*95/100]), round(m.times[n-1]), m.bytes, m.compressed, m.statements)
	}
	return out.Flush()
}

// A measure is what a page costs; times are sorted.
type measure struct {
	times             []time.Duration
	bytes, compressed int64
	statements        float64 // a request
}

func measurePage(ctx context.Context, st *store.Store, url string) (m measure, err error) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: pageClients}}
	defer client.CloseIdleConnections()
	if m.bytes, err = fetch(ctx, client, url, "identity"); err != nil {
		return m, err
	}
	for range 10 { // warm
		if m.compressed, err = fetch(ctx, client, url, "gzip"); err != nil {
			return m, err
		}
	}
	before := st.Statements()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	times := make([][]time.Duration, pageClients)
	for i := range times {
		wg.Go(func() {
			for range pageRequests / pageClients {
				began := time.Now()
				if _, err := fetch(ctx, client, url, "gzip"); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				times[i] = append(times[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return m, *err
	}
	m.times = slices.Sorted(slices.Values(slices.Concat(times...)))
	m.statements = float64(st.Statements()-before) / float64(len(m.times))
	return m, nil
}

func fetch(ctx context.Context, client *http.Client, url, encoding string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept-Encoding", encoding)
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if res.StatusCode >= 400 && res.StatusCode != http.StatusNotFound {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return n, err
}

// fillPages pushes images with labels, each with two tags; every tenth is an index of two. A fifth of the tags are in one
// repository. Then it pulls some.
func fillPages(ctx context.Context, st *store.Store, repositories, tags int) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 32 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(tags/2) && failed.Load() == nil; i = next.Add(1) {
				r := i % int64(max(repositories-1, 1))
				repo := fmt.Sprintf("team-%d/r%d", r%50, r)
				if i%5 == 0 {
					repo = largeName
				}
				if err := pushTagged(ctx, st, repo, i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return st.FlushUses()
}

func pushTagged(ctx context.Context, st *store.Store, repo string, i int64) error {
	name, err := oci.ParseName(repo)
	if err != nil {
		return err
	}
	blob := func(mediaType, body string) (string, error) {
		dgst := oci.SumDigest(digest.SHA256, []byte(body))
		id, err := st.StartUpload(name, "bench", digest.SHA256)
		if err == nil {
			err = st.FinishUpload(ctx, name, "bench", id, 0, strings.NewReader(body), dgst)
		}
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, dgst, len(body)), err
	}
	const typed = "application/vnd.oci.image."
	config, err := blob(typed+"config.v1+json", fmt.Sprintf(`{"os":"linux","architecture":%q,"config":{"Labels":{"n":"%d","maintainer":"team %d"},"Env":["PATH=/bin"]},"history":[{"created_by":"RUN make %d"}]}`,
		[]string{"amd64", "arm64"}[i%2], i, i%50, i))
	if err != nil {
		return err
	}
	layer, err := blob(typed+"layer.v1.tar+gzip", fmt.Sprint("a base that some share ", i%100))
	if err != nil {
		return err
	}
	raw := `{"schemaVersion":2,"config":` + config + `,"layers":[` + layer + `]}`
	tags := []string{fmt.Sprintf("1.%d.%d", i/1000, i%1000), fmt.Sprintf("build-%d", i)}
	if i%10 != 0 {
		return putTagged(ctx, st, name, typed+"manifest.v1+json", raw, tags, i)
	}
	if err := putTagged(ctx, st, name, typed+"manifest.v1+json", raw, nil, i); err != nil {
		return err
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		typed+"manifest.v1+json", oci.SumDigest(digest.SHA256, []byte(raw)), len(raw))
	return putTagged(ctx, st, name, typed+"index.v1+json", index, tags, i)
}

func putTagged(ctx context.Context, st *store.Store, name oci.Name, mediaType, raw string, tags []string, i int64) error {
	m, err := oci.ParseManifest(mediaType, []byte(raw))
	if err != nil {
		return err
	}
	p := store.ManifestPut{Name: name, Digest: oci.SumDigest(digest.SHA256, []byte(raw)), Manifest: m, Sparse: store.SparseIndex, By: store.Actor{Name: "bench"}}
	for _, text := range tags {
		tag, err := oci.ParseTag(text)
		if err != nil {
			return err
		}
		p.Tags = append(p.Tags, tag)
	}
	if _, err = st.PutManifest(ctx, p); err != nil {
		return err
	}
	for range i % 4 * int64(len(tags)) {
		st.Used(name, oci.Reference{Tag: p.Tags[0]}, p.Digest, true)
	}
	return nil
}

// noCollector has nothing to collect.
type noCollector struct{}

func (noCollector) Plan(context.Context, bool) (p web.Plan, err error) { return p, nil }
func (noCollector) Collect(context.Context, bool, string, store.Actor, func(done, total int)) (p web.Plan, err error) {
	return p, nil
}
func (noCollector) PlanRemoval(context.Context, oci.Name) (p web.Plan, err error) { return p, nil }
func (noCollector) Remove(context.Context, oci.Name, string, store.Actor) (int64, error) {
	return 0, nil
}
