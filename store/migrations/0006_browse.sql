-- What the pages show and search. Times are unix seconds, days are unix seconds / 86400.

-- What a manifest is (oci.Facts), from its bytes and its config. The columns are what lists need; facts is all of it, as
-- JSON, deflated. Platforms and provides are words with spaces between. A manifest without a row is not described yet.
CREATE TABLE manifest_facts (
	manifest   INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
	kind       TEXT    NOT NULL,
	platforms  TEXT    NOT NULL,
	pull_size  INTEGER NOT NULL,
	created_at INTEGER NOT NULL, -- 0 when it does not say
	provides   TEXT    NOT NULL,
	facts      BLOB    NOT NULL
) STRICT;

-- Labels and annotations, each text once: search looks at distinct texts, and there are fewer than manifests.
CREATE TABLE labels (
	id    INTEGER PRIMARY KEY,
	key   TEXT NOT NULL,
	value TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX labels_text ON labels (key COLLATE NOCASE, value COLLATE NOCASE, key, value);

CREATE TABLE manifest_labels (
	label    INTEGER NOT NULL REFERENCES labels (id) ON DELETE RESTRICT,
	manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
	PRIMARY KEY (label, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_labels_manifest ON manifest_labels (manifest);

CREATE TRIGGER manifest_labels_deleted AFTER DELETE ON manifest_labels BEGIN
	DELETE FROM labels WHERE id = old.label AND NOT EXISTS (SELECT 1 FROM manifest_labels WHERE label = old.label);
END;

-- sort_key is oci.TagOrder of the name. The function exists while migrating only: no index or trigger may use it.
ALTER TABLE tags ADD COLUMN sort_key TEXT NOT NULL DEFAULT '';
UPDATE tags SET sort_key = cubby_tag_order(name);
CREATE INDEX tags_pushed ON tags (repository, updated_at DESC, name);
CREATE INDEX tags_order ON tags (repository, sort_key);
CREATE INDEX tags_name ON tags (name COLLATE NOCASE);

CREATE INDEX manifests_digest ON manifests (digest);
CREATE INDEX manifests_pushed ON manifests (repository, pushed_at DESC, id DESC);
CREATE INDEX blobs_size ON blobs (size);
CREATE INDEX tag_history_removed ON tag_history (repository, id) WHERE to_digest IS NULL;

-- pushed_at is when a manifest was last put, last_used when one was last asked for. kind is that of the manifest to which
-- a tag was last set, as far as it is known; what is attached to others counts only where there is nothing else.
ALTER TABLE repositories ADD COLUMN pushed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN kind TEXT NOT NULL DEFAULT '';
UPDATE repositories SET
	pushed_at = (SELECT COALESCE(max(m.pushed_at), 0) FROM manifests m WHERE m.repository = repositories.id),
	last_used = (SELECT COALESCE(max(m.last_used), 0) FROM manifests m WHERE m.repository = repositories.id),
	kind = COALESCE((SELECT CASE
			WHEN m.artifact_type IN ('application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json') THEN 'image'
			WHEN m.artifact_type = 'application/vnd.cncf.helm.config.v1+json' THEN 'chart'
			ELSE '' END
		FROM tags t JOIN manifests m ON m.id = t.manifest WHERE t.repository = repositories.id AND t.name NOT GLOB 'sha[25][51][62]-*'
		ORDER BY t.updated_at DESC, t.name LIMIT 1), '');

-- Pulls as they are counted for tags, of the manifests of a repository by day.
CREATE TABLE repository_pulls (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	day        INTEGER NOT NULL,
	pulls      INTEGER NOT NULL,
	PRIMARY KEY (repository, day)
) STRICT, WITHOUT ROWID;

-- Bytes of blobs and database as they were last seen that day.
CREATE TABLE disk_days (
	day   INTEGER PRIMARY KEY,
	bytes INTEGER NOT NULL
) STRICT;
