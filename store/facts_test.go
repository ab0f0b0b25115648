package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const (
	indexType  = "application/vnd.oci.image.index.v1+json"
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// putAs puts a manifest of a media type.
func putAs(t testing.TB, s *Store, repo, mediaType string, raw []byte, tags ...string) digest.Digest {
	t.Helper()
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	p := ManifestPut{Name: name(repo), Digest: sum(raw), Manifest: m, Sparse: SparseAll, By: Actor{Name: "test"}}
	for _, v := range tags {
		p.Tags = append(p.Tags, tag(v))
	}
	if _, err := s.PutManifest(context.WithoutCancel(t.Context()), p); err != nil {
		t.Fatalf("put: %v", err)
	}
	return sum(raw)
}

// pushed stores a blob.
func pushed(t testing.TB, s *Store, repo, content string) digest.Digest {
	t.Helper()
	dgst := sum([]byte(content))
	id, err := s.StartUpload(name(repo), "p", digest.SHA256)
	if err == nil {
		err = s.FinishUpload(context.WithoutCancel(t.Context()), name(repo), "p", id, -1, bytes.NewReader([]byte(content)), dgst)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dgst
}

// configOf returns the config of an image. It is as different as its label n.
func configOf(architecture, n string) string {
	return fmt.Sprintf(`{"created":"2024-01-02T03:04:05Z","os":"linux","architecture":%q,"config":{"Labels":{"n":%q}},"rootfs":{"diff_ids":[%q]}}`, architecture, n, sum([]byte("layer")))
}

// realImage returns an image with a config and a layer of 1000 bytes; extra are further fields of the manifest.
func realImage(config digest.Digest, extra string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":50},"layers":[{"mediaType":%q,"digest":%q,"size":1000}]%s}`,
		configType, config, layerType, sum([]byte("layer")), extra)
}

// mustImage pushes an image of an architecture and returns its digest.
func mustImage(t testing.TB, s *Store, repo, architecture, n string, tags ...string) digest.Digest {
	t.Helper()
	return putAs(t, s, repo, imageType, realImage(pushed(t, s, repo, configOf(architecture, n)), ""), tags...)
}

// storedFacts returns the kind, platforms and labels of a manifest, or "" when it is not described.
func storedFacts(t *testing.T, s *Store, repo string, dgst digest.Digest) string {
	t.Helper()
	var kind, platforms, labels string
	var packed []byte
	err := s.db.queryRow(t.Context(), `SELECT f.kind, f.platforms, f.facts, COALESCE((SELECT group_concat(l.key || '=' || l.value, ' ' ORDER BY l.key)
		FROM manifest_labels ml JOIN labels l ON l.id = ml.label WHERE ml.manifest = m.id), '')
		FROM repositories r JOIN manifests m ON m.repository = r.id JOIN digests d ON d.id = m.digest JOIN manifest_facts f ON f.manifest = m.id
		WHERE r.name = ? AND d.digest = ?`, repo, dgst.String()).Scan(&kind, &platforms, &packed, &labels)
	if errors.Is(err, sql.ErrNoRows) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	facts, err := unpackFacts(packed)
	if err != nil || string(facts.Kind) != kind || strings.Join(facts.Platforms, " ") != platforms {
		t.Errorf("facts %+v, %v; the columns say %s, %s", facts, err, kind, platforms)
	}
	return strings.TrimSpace(kind + " " + platforms + " " + labels)
}

func TestFacts(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustImage(t, s, "a", "amd64", "1", "latest")
	if got := storedFacts(t, s, "a", dgst); got != "image linux/amd64 n=1" {
		t.Errorf("facts %q", got)
	}
	// The same bytes as another media type are something else.
	raw := realImage(sum([]byte(configOf("amd64", "1"))), "")
	putAs(t, s, "a", "application/vnd.x+json", raw)
	if got := storedFacts(t, s, "a", dgst); got != "artifact" {
		t.Errorf("facts of another type %q", got)
	}
	// An image whose config is not there is described when it is put again with it.
	config := configOf("arm64", "2")
	later := putAs(t, s, "a", imageType, realImage(sum([]byte(config)), ""))
	if got := storedFacts(t, s, "a", later); got != "" {
		t.Errorf("facts without a config: %q", got)
	}
	pushed(t, s, "a", config)
	putAs(t, s, "a", imageType, realImage(sum([]byte(config)), ""))
	if got := storedFacts(t, s, "a", later); got != "image linux/arm64 n=2" {
		t.Errorf("facts with the config: %q", got)
	}
	// They go with their manifest, and labels with their last one.
	other := mustImage(t, s, "b", "arm64", "2")
	for i, d := range []digest.Digest{later, other} {
		if err := s.DeleteManifest(t.Context(), name(string(rune('a'+i))), d, Condition{}, Actor{}); err != nil {
			t.Fatal(err)
		}
		var labels int
		if err := s.db.queryRow(t.Context(), `SELECT count(*) FROM labels WHERE key = 'n' AND value = '2'`).Scan(&labels); err != nil || labels != 1-i {
			t.Errorf("%d labels after %d of 2 deletes, %v", labels, i+1, err)
		}
	}
	// A config that is too large is not read.
	huge := mustImage(t, s, "a", "amd64", strings.Repeat("x", configMax))
	if got := storedFacts(t, s, "a", huge); got != "image" {
		t.Errorf("facts with a large config: %.100q", got)
	}
}

// forget takes a database back to the state in which an older version left it.
func forget(t *testing.T, dir string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, fileDB)))
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{`DELETE FROM manifest_facts`, `DELETE FROM manifest_labels`, `UPDATE repositories SET kind = ''`, `DELETE FROM settings WHERE name = 'described'`} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDescribeInBackground: what an older version has put is described while the store serves, and never twice.
func TestDescribeInBackground(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	var all []digest.Digest
	for i := range 40 {
		all = append(all, mustImage(t, s, "a", "amd64", fmt.Sprint(i), fmt.Sprint("t", i)))
	}
	absent := putAs(t, s, "a", imageType, realImage(sum([]byte("absent")), ""))
	shut(t, s)
	forget(t, dir)

	o := testingOptions(dir)
	o.ReadOnly = true
	s = open(t, o)
	if got := storedFacts(t, s, "a", all[0]); got != "" {
		t.Errorf("a read-only store described: %q", got)
	}
	shut(t, s)
	s = open(t, testingOptions(dir))
	<-s.describes.done
	for i, dgst := range all {
		if got, want := storedFacts(t, s, "a", dgst), fmt.Sprintf("image linux/amd64 n=%d", i); got != want {
			t.Errorf("facts %q, want %q", got, want)
		}
	}
	if got := storedFacts(t, s, "a", absent); got != "" {
		t.Errorf("facts without a config: %q", got)
	}
	var kind string
	if err := s.db.queryRow(t.Context(), `SELECT kind FROM repositories`).Scan(&kind); err != nil || kind != "image" {
		t.Errorf("kind %q, %v", kind, err)
	}
	if n := s.describes.count.Load(); n != 41 {
		t.Errorf("looked at %d manifests, want 41", n)
	}
	shut(t, s)
	s = open(t, testingOptions(dir))
	<-s.describes.done
	if n := s.describes.count.Load(); n != 0 {
		t.Errorf("looked at %d manifests again", n)
	}
}

// TestDescribeNewestTag: described in the order of their ids, manifests leave the repository the kind of its newest tag.
func TestDescribeNewestTag(t *testing.T) {
	dir := t.TempDir()
	o := testingOptions(dir)
	c := newClock(s0)
	o.Now = c.Now
	s := open(t, o)
	chart := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":%q,"size":1},"layers":[]}`, sum([]byte("h")))
	image := realImage(pushed(t, s, "b", configOf("amd64", "1")), "")
	pushed(t, s, "a", configOf("amd64", "1"))
	for _, v := range []struct {
		repo, tag string
		raw       []byte
	}{{"a", "1", chart}, {"a", "2", image}, {"b", "1", image}, {"b", "2", chart}, {"a", "1", chart}, {"b", "1", image}} {
		c.set(c.now.Add(time.Minute))
		putAs(t, s, v.repo, imageType, v.raw, v.tag)
	}
	shut(t, s)
	forget(t, dir)
	s = open(t, o)
	<-s.describes.done
	for repo, want := range map[string]oci.ArtifactKind{"a": oci.KindChart, "b": oci.KindContainer} {
		if v, err := s.Summary(t.Context(), name(repo)); err != nil || v.Kind != want {
			t.Errorf("%s is of kind %q, want %q (%v)", repo, v.Kind, want, err)
		}
	}
}

// TestDescribeLaterRaces: what was read before a manifest was put again is not stored for it.
func TestDescribeLaterRaces(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	dgst := mustImage(t, s, "a", "amd64", "1")
	u := undescribed{name: name("a"), mediaType: imageType}
	if err := s.db.queryRow(t.Context(), `SELECT id, repository, digest FROM manifests`).Scan(&u.id, &u.repository, &u.dgst); err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest("application/vnd.x+json", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.describe(t.Context(), name("a"), m)
	if err != nil {
		t.Fatal(err)
	}
	forgetFacts := func(t *tx) error { return t.keepFacts(u.id, nil) }
	for _, tt := range []struct {
		what   string
		change func()
		want   string
	}{
		{"described meanwhile", func() {}, "image linux/amd64 n=1"},
		{"of another type", func() { u.mediaType = "x/y" }, ""},
		{"of another digest", func() { u.mediaType, u.dgst = imageType, u.dgst+1 }, ""},
		{"as it was", func() { u.dgst-- }, "artifact"},
	} {
		tt.change()
		if err := s.w.do(anything, func(t *tx) error { return t.describeLater(u, d) }); err != nil {
			t.Fatal(err)
		}
		if got := storedFacts(t, s, "a", dgst); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
		if err := s.w.do(anything, forgetFacts); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRepositoryColumns(t *testing.T) {
	c := newClock(time.Unix(1_700_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	want := func(step, kind string, pushed, used int64) {
		t.Helper()
		var k string
		var p, u int64
		if err := s.db.queryRow(t.Context(), `SELECT kind, pushed_at, last_used FROM repositories`).Scan(&k, &p, &u); err != nil || k != kind || p != pushed || u != used {
			t.Errorf("%s: kind %q, pushed %d, used %d, %v; want %q, %d, %d", step, k, p, u, err, kind, pushed, used)
		}
	}
	signature := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":1},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":%q,"size":1}]}`,
		configType, sum([]byte("c")), sum([]byte("s")))
	putAs(t, s, "a", imageType, signature, "sha256-"+strings.Repeat("a", 64)+".sig")
	want("a signature first", "signature", 1_700_000_000, 0)
	c.set(time.Unix(1_700_000_100, 0))
	mustImage(t, s, "a", "amd64", "1", "1")
	want("then an image", "image", 1_700_000_100, 0)
	putAs(t, s, "a", imageType, signature, "again")
	want("a signature again", "image", 1_700_000_100, 0)
	chart := putAs(t, s, "a", imageType, fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":%q,"size":1},"layers":[]}`, sum([]byte("h"))), "chart")
	want("a chart", "chart", 1_700_000_100, 0)
	c.set(time.Unix(1_700_000_200, 0))
	s.Used(name("a"), oci.Reference{Digest: chart}, chart, false)
	if err := s.FlushUses(); err != nil {
		t.Fatal(err)
	}
	want("used", "chart", 1_700_000_100, 1_700_000_200)
}

func TestPullsByDayRows(t *testing.T) {
	c := newClock(time.Unix(100*secondsPerDay+5, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	child := mustImage(t, s, "a", "amd64", "1")
	index := putAs(t, s, "a", indexType, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, imageType, child), "1")
	pull := func(day int64, dgst digest.Digest, pull bool) {
		t.Helper()
		c.set(time.Unix(day*secondsPerDay+7, 0))
		s.Used(name("a"), oci.Reference{Digest: dgst}, dgst, pull)
		if err := s.FlushUses(); err != nil {
			t.Fatal(err)
		}
	}
	rows := func() string {
		t.Helper()
		lines, err := collect(t.Context(), s.db, scanString, `SELECT day || ':' || pulls FROM repository_pulls ORDER BY day`)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, " ")
	}
	pull(100, index, true)
	pull(100, index, true)
	pull(100, child, true)  // part of the index
	pull(100, index, false) // a HEAD
	pull(101, index, true)
	if got := rows(); got != "100:2 101:1" {
		t.Errorf("pulls %s", got)
	}
	pull(101+pullDays, index, true)
	if got := rows(); got != "101:1 501:1" {
		t.Errorf("pulls %s, old days must go", got)
	}
}

func TestDiskDays(t *testing.T) {
	c := newClock(time.Unix(100*secondsPerDay, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	o.Role = RoleAdmin // no other goroutine notes sizes
	shut(t, open(t, testingOptions(o.Dir)))
	s := open(t, o)
	note := func(at int64) {
		t.Helper()
		c.set(time.Unix(at, 0))
		if err := s.keepDiskDay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	days := func(n int) []DiskDay {
		t.Helper()
		d, err := s.DiskDays(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	note(100 * secondsPerDay)
	first := days(5)
	mustPush(t, s, "a", strings.Repeat("x", 100_000))
	note(100*secondsPerDay + 60)
	if got := days(5); !reflect.DeepEqual(got, first) {
		t.Errorf("noted again after a minute: %v, %v", got, first)
	}
	note(100*secondsPerDay + 3600)
	use, err := s.DiskUse(t.Context())
	if got := days(5); err != nil || len(got) != 1 || got[0].Bytes < first[0].Bytes+100_000 || got[0].Bytes > use.Disk {
		t.Errorf("after an hour %v, before %v, now %d, %v", got, first, use.Disk, err)
	}
	note(102 * secondsPerDay)
	if got := days(5); len(got) != 2 || !got[1].Day.Equal(time.Unix(102*secondsPerDay, 0)) {
		t.Errorf("days %v", got)
	}
	if got := days(1); len(got) != 1 || !got[0].Day.Equal(time.Unix(102*secondsPerDay, 0)) {
		t.Errorf("last day %v", got)
	}
}

// TestCheckOrder: a tag that is sorted wrongly is found.
func TestCheckOrder(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	mustImage(t, s, "a", "amd64", "1", "1", "2")
	exec := func(query string) {
		t.Helper()
		if err := s.w.do(anything, func(t *tx) error { _, err := t.exec(query); return err }); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE tags SET sort_key = 'x' WHERE name = '2'`)
	report, err := s.Check(t.Context(), false, nil)
	if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0].What, "a:2") {
		t.Errorf("%+v, %v", report.Problems, err)
	}
	exec(`DELETE FROM tags WHERE name = '2'`)
}

// TestUndescribed: a manifest that was described, and went while it was put again, is described anew.
func TestUndescribed(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	raw := imageOf(mustPush(t, s, "a", "config"))
	m, err := oci.ParseManifest(imageType, raw)
	if err != nil {
		t.Fatal(err)
	}
	p := ManifestPut{Name: name("a"), Digest: sum(raw), Manifest: m, Sparse: SparseIndex}
	putAsBefore := func() error {
		return s.add(within(p.Name), func(t *tx) error {
			_, err := t.putManifest(p, nil, asBefore, func(oci.Tag) tagBounds { return tagBounds{} })
			return err
		})
	}
	if err := putAsBefore(); !errors.Is(err, errUndescribed) {
		t.Errorf("as before, and it is not here: %v", err)
	}
	mustPut(t, s, "a", raw)
	if d, err := s.describeNew(t.Context(), p); d != asBefore || err != nil {
		t.Errorf("described again: %v, %v", d, err)
	}
	if err := putAsBefore(); err != nil {
		t.Errorf("as before: %v", err)
	}
}
