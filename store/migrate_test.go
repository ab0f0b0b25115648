package store

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"cubby/store/oci"
)

// TestMigrate: a store of the first schema, with content, is brought to the newest, keeps everything, and leaves a copy
// of the old database behind.
func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	config, layer := []byte("config"), []byte("layer")
	manifest := imageOf(sum(config), sum(layer))
	for _, content := range [][]byte{config, layer} {
		path := filepath.Join(dir, "blobs", blobPath(sum(content)))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, string(content))
	}
	id, err := json.Marshal(sentinel{ID: "old"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "blobs", "store.json"), string(id))
	ddl, err := migrationFiles.ReadFile("migrations/0001_registry.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, fileDB), "_journal_mode=WAL"))
	if err != nil {
		t.Fatal(err)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(string(ddl))
	exec(`PRAGMA application_id = 1131766393`)
	exec(`PRAGMA user_version = 1`)
	exec(`INSERT INTO store (id, created_at) VALUES ('old', 1)`)
	exec(`INSERT INTO repositories (id, name, created_at) VALUES (1, 'a', 1), (2, 'b', 1)`)
	exec(`INSERT INTO digests (id, digest) VALUES (1, ?), (2, ?), (3, ?)`, sum(config).String(), sum(layer).String(), sum(manifest).String())
	exec(`INSERT INTO blobs (digest, size, created_at) VALUES (1, ?, 1), (2, ?, 1)`, len(config), len(layer))
	exec(`INSERT INTO repository_blobs (repository, blob, refs, keep_until) VALUES (1, 1, 1, 1), (1, 2, 1, 1), (2, 2, 0, 1)`)
	exec(`INSERT INTO manifests (id, repository, digest, media_type, artifact_type, size, refs, pushed_at, annotations) VALUES (1, 1, 3, ?, 'c/c', ?, 0, 1, '')`, imageType, len(manifest))
	exec(`INSERT INTO manifest_bodies (manifest, body) VALUES (1, ?)`, manifest)
	exec(`INSERT INTO manifest_references (repository, target, manifest, kind, needed) VALUES (1, 1, 1, 1, 1), (1, 2, 1, 1, 1)`)
	exec(`INSERT INTO tags (repository, name, manifest, updated_at) VALUES (1, 'latest', 1, 1)`)
	exec(`INSERT INTO tag_history (repository, tag, to_digest, at, who, address) VALUES (1, 'latest', 3, 1, 'x', ''), (1, 'other', 3, 2, 'x', ''), (1, 'other', NULL, 3, 'x', '')`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s := open(t, testingOptions(dir))
	m, err := s.Manifest(t.Context(), name("a"), oci.Reference{Tag: tag("latest")}, true)
	if err != nil || string(m.Raw) != string(manifest) {
		t.Errorf("manifest: %q, %v", m.Raw, err)
	}
	if got, err := read(t, s, "b", sum(layer)); err != nil || string(got) != "layer" {
		t.Errorf("blob: %q, %v", got, err)
	}
	moves, err := s.History(t.Context(), name("a"), tag("other"), 0, 10)
	if err != nil || len(moves) != 2 || moves[0].Number != 2 {
		t.Errorf("history: %+v, %v", moves, err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileDB+".before-2")); err != nil {
		t.Errorf("copy of the old database: %v", err)
	}
	<-s.describes.done
	v, err := s.Summary(t.Context(), name("a"))
	if err != nil || v.PushedAt.Unix() != 1 || v.Tags != 1 || v.Kind != oci.KindAny || v.Facts.PullSize != int64(len(manifest)+2) {
		t.Errorf("summary of what an older version put: %+v, %v", v, err)
	}
	// The counters were made from what was there: check, which runs after the test, compares them with the rows.
}
