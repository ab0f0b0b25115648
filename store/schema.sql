CREATE INDEX audit_at ON audit (at);

CREATE INDEX audit_noise ON audit (id) WHERE action IN ('login', 'login failed', 'logout', 'denied');

CREATE INDEX blobs_size ON blobs (size);

CREATE UNIQUE INDEX labels_text ON labels (key COLLATE NOCASE, value COLLATE NOCASE, key, value);

CREATE INDEX manifest_facts_chain ON manifest_facts (chain) WHERE chain IS NOT NULL;

CREATE INDEX manifest_labels_manifest ON manifest_labels (manifest);

CREATE INDEX manifest_references_manifest ON manifest_references (manifest);

CREATE INDEX manifests_digest ON manifests (digest);

CREATE INDEX manifests_pushed ON manifests (repository, pushed_at DESC, id DESC);

CREATE INDEX manifests_subject ON manifests (repository, subject, id) WHERE subject IS NOT NULL;

CREATE INDEX manifests_untagged ON manifests (id) WHERE untagged_since IS NOT NULL;

CREATE INDEX repositories_catalog ON repositories (name) WHERE manifests > 0;

CREATE INDEX repository_blobs_blob ON repository_blobs (blob);

CREATE INDEX repository_blobs_loose ON repository_blobs (blob, repository, keep_until) WHERE refs = 0;

CREATE INDEX tag_history_removed ON tag_history (repository, id) WHERE to_digest IS NULL;

CREATE INDEX tag_history_repository ON tag_history (repository);

CREATE UNIQUE INDEX tag_history_tag ON tag_history (repository, tag, number);

CREATE INDEX tag_history_undoes ON tag_history (repository, tag, undoes) WHERE undoes IS NOT NULL;

CREATE INDEX tags_manifest ON tags (manifest);

CREATE INDEX tags_name ON tags (name COLLATE NOCASE);

CREATE INDEX tags_order ON tags (repository, sort_key);

CREATE INDEX tags_pushed ON tags (repository, updated_at DESC, name);

CREATE INDEX tokens_user ON tokens (user);

CREATE TABLE anonymous_grants (
	repositories TEXT PRIMARY KEY,
	actions      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
	id         INTEGER PRIMARY KEY,
	at         INTEGER NOT NULL,
	action     TEXT    NOT NULL,
	who        TEXT    NOT NULL,
	token      TEXT    NOT NULL, -- id of the access token that was used, or ''
	repository TEXT    NOT NULL, -- or a pattern
	reference  TEXT    NOT NULL, -- tags or a digest
	detail     TEXT    NOT NULL,
	address    TEXT    NOT NULL,
	client     TEXT    NOT NULL
) STRICT;

CREATE TABLE blobs (
	digest     INTEGER PRIMARY KEY REFERENCES digests (id) ON DELETE RESTRICT,
	size       INTEGER NOT NULL CHECK (size >= 0),
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE clock (
	seen_at     INTEGER NOT NULL,
	boot        TEXT    NOT NULL, -- the kernel's boot id
	uptime      INTEGER NOT NULL, -- seconds since boot, when seen
	doubt_since INTEGER NOT NULL, -- when a jump forward was noticed, 0 when the clock is trusted
	trusted_for INTEGER NOT NULL  -- seconds of uptime since then without another jump
) STRICT;

CREATE TABLE collections (
	id          INTEGER PRIMARY KEY,
	started_at  INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL,
	cause       TEXT    NOT NULL, -- schedule or command
	outcome     TEXT    NOT NULL, -- done, failed or refused
	reason      TEXT    NOT NULL, -- why it failed or was refused
	tags        INTEGER NOT NULL,
	manifests   INTEGER NOT NULL,
	blobs       INTEGER NOT NULL,
	bytes       INTEGER NOT NULL
) STRICT;

CREATE TABLE deleted_manifests (
	id         INTEGER PRIMARY KEY,
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	digest     INTEGER NOT NULL REFERENCES digests (id) ON DELETE RESTRICT,
	at         INTEGER NOT NULL,
	who        TEXT    NOT NULL,
	address    TEXT    NOT NULL,
	UNIQUE (repository, digest)
) STRICT;

CREATE TABLE digests (
	id     INTEGER PRIMARY KEY,
	digest TEXT    NOT NULL UNIQUE CHECK (
		(digest GLOB 'sha256:*' AND length(digest) = 71) OR (digest GLOB 'sha512:*' AND length(digest) = 135))
) STRICT;

CREATE TABLE disk_days (
	day   INTEGER PRIMARY KEY,
	bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE grants (
	user         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	repositories TEXT    NOT NULL, -- a pattern
	actions      TEXT    NOT NULL,
	PRIMARY KEY (user, repositories)
) STRICT, WITHOUT ROWID;

CREATE TABLE labels (
	id    INTEGER PRIMARY KEY,
	key   TEXT NOT NULL,
	value TEXT NOT NULL
) STRICT;

CREATE TABLE manifest_bodies (
	manifest INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
	body     BLOB    NOT NULL
) STRICT;

CREATE TABLE manifest_facts (
	manifest   INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
	kind       TEXT    NOT NULL,
	platforms  TEXT    NOT NULL,
	pull_size  INTEGER NOT NULL,
	created_at INTEGER NOT NULL, -- 0 when it does not say
	provides   TEXT    NOT NULL,
	facts      BLOB    NOT NULL
, chain BLOB) STRICT;

CREATE TABLE manifest_labels (
	label    INTEGER NOT NULL REFERENCES labels (id) ON DELETE RESTRICT,
	manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
	PRIMARY KEY (label, manifest)
) STRICT, WITHOUT ROWID;

CREATE TABLE manifest_references (
	repository INTEGER NOT NULL,
	target     INTEGER NOT NULL REFERENCES digests (id) ON DELETE RESTRICT,
	manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
	kind       INTEGER NOT NULL,
	needed     INTEGER NOT NULL,
	PRIMARY KEY (repository, target, manifest)
) STRICT, WITHOUT ROWID;

CREATE TABLE manifests (
	id             INTEGER PRIMARY KEY,
	repository     INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	digest         INTEGER NOT NULL REFERENCES digests (id) ON DELETE RESTRICT,
	media_type     TEXT    NOT NULL,
	artifact_type  TEXT    NOT NULL,
	subject        INTEGER REFERENCES digests (id) ON DELETE RESTRICT,
	size           INTEGER NOT NULL,
	refs           INTEGER NOT NULL CHECK (refs >= 0),
	pushed_at      INTEGER NOT NULL,
	untagged_since INTEGER,
	annotations    TEXT    NOT NULL, last_used INTEGER NOT NULL DEFAULT 0, cache INTEGER NOT NULL DEFAULT 0, -- JSON object, or '' for none
	UNIQUE (repository, digest)
) STRICT;

CREATE TABLE recording_gaps (
	began INTEGER PRIMARY KEY,
	ended INTEGER NOT NULL
) STRICT;

CREATE TABLE repositories (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL UNIQUE,
	created_at INTEGER NOT NULL,
	manifests  INTEGER NOT NULL DEFAULT 0,
	tags       INTEGER NOT NULL DEFAULT 0
, blob_bytes INTEGER NOT NULL DEFAULT 0, manifest_bytes INTEGER NOT NULL DEFAULT 0, only_here INTEGER NOT NULL DEFAULT 0, pushed_at INTEGER NOT NULL DEFAULT 0, last_used INTEGER NOT NULL DEFAULT 0, kind TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE repository_blobs (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	blob       INTEGER NOT NULL REFERENCES blobs (digest) ON DELETE RESTRICT,
	refs       INTEGER NOT NULL CHECK (refs >= 0),
	keep_until INTEGER NOT NULL,
	PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;

CREATE TABLE repository_pulls (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	day        INTEGER NOT NULL,
	pulls      INTEGER NOT NULL,
	PRIMARY KEY (repository, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
	id         BLOB    PRIMARY KEY, -- SHA-256 of what the browser holds
	user       TEXT    NOT NULL,
	user_id    INTEGER NOT NULL, -- 0 for a user of an htpasswd file
	password   BLOB    NOT NULL, -- SHA-256 of the user's password hash at login
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	last_used  INTEGER NOT NULL,
	address    TEXT    NOT NULL, -- from where it was last used
	client     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE store (
	id         TEXT    NOT NULL,
	created_at INTEGER NOT NULL
, tracking_since INTEGER NOT NULL DEFAULT 0, blob_bytes INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE tag_history (
	id          INTEGER PRIMARY KEY,
	repository  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	tag         TEXT    NOT NULL,
	from_digest INTEGER REFERENCES digests (id) ON DELETE RESTRICT,
	to_digest   INTEGER REFERENCES digests (id) ON DELETE RESTRICT,
	at          INTEGER NOT NULL,
	who         TEXT    NOT NULL,
	address     TEXT    NOT NULL
, number INTEGER NOT NULL DEFAULT 0, undoes INTEGER, pushed_at INTEGER, last_used INTEGER, pulls INTEGER) STRICT;

CREATE TABLE tags (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	name       TEXT    NOT NULL,
	manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE RESTRICT,
	updated_at INTEGER NOT NULL, last_used INTEGER NOT NULL DEFAULT 0, pulls INTEGER NOT NULL DEFAULT 0, sort_key TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
	id           TEXT    PRIMARY KEY,
	user         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	secret       BLOB    NOT NULL, -- SHA-256 of it
	description  TEXT    NOT NULL,
	repositories TEXT    NOT NULL, -- a pattern
	actions      TEXT    NOT NULL,
	networks     TEXT    NOT NULL, -- CIDR prefixes with spaces between, or '' for all
	created_at   INTEGER NOT NULL,
	expires_at   INTEGER NOT NULL, -- 0 for never
	last_used    INTEGER NOT NULL DEFAULT 0,
	last_address TEXT    NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
	id          TEXT    PRIMARY KEY,
	repository  TEXT    NOT NULL,
	principal   TEXT    NOT NULL,
	algorithm   TEXT    NOT NULL,
	size        INTEGER NOT NULL,
	progress_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	name       TEXT    NOT NULL UNIQUE,
	password   TEXT    NOT NULL, -- bcrypt
	created_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER blobs_deleted AFTER DELETE ON blobs BEGIN
	UPDATE store SET blob_bytes = blob_bytes - old.size;
END;

CREATE TRIGGER blobs_inserted AFTER INSERT ON blobs BEGIN
	UPDATE store SET blob_bytes = blob_bytes + new.size;
END;

CREATE TRIGGER manifest_labels_deleted AFTER DELETE ON manifest_labels BEGIN
	DELETE FROM labels WHERE id = old.label AND NOT EXISTS (SELECT 1 FROM manifest_labels WHERE label = old.label);
END;

CREATE TRIGGER manifests_deleted AFTER DELETE ON manifests BEGIN
	UPDATE repositories SET manifests = manifests - 1, manifest_bytes = manifest_bytes - old.size WHERE id = old.repository;
END;

CREATE TRIGGER manifests_inserted AFTER INSERT ON manifests BEGIN
	UPDATE repositories SET manifests = manifests + 1, manifest_bytes = manifest_bytes + new.size WHERE id = new.repository;
END;

CREATE TRIGGER repository_blobs_deleted AFTER DELETE ON repository_blobs BEGIN
	UPDATE repositories SET blob_bytes = blob_bytes - b.size,
		only_here = only_here - CASE WHEN EXISTS (SELECT 1 FROM repository_blobs WHERE blob = old.blob) THEN 0 ELSE b.size END
		FROM blobs b WHERE b.digest = old.blob AND repositories.id = old.repository;
	UPDATE repositories SET only_here = only_here + (SELECT size FROM blobs WHERE digest = old.blob)
		WHERE id = (SELECT min(repository) FROM (SELECT repository FROM repository_blobs WHERE blob = old.blob LIMIT 2) HAVING count(*) = 1);
END;

CREATE TRIGGER repository_blobs_inserted AFTER INSERT ON repository_blobs BEGIN
	UPDATE repositories SET blob_bytes = blob_bytes + b.size,
		only_here = only_here + CASE WHEN EXISTS (SELECT 1 FROM repository_blobs WHERE blob = new.blob AND repository <> new.repository) THEN 0 ELSE b.size END
		FROM blobs b WHERE b.digest = new.blob AND repositories.id = new.repository;
	UPDATE repositories SET only_here = only_here - (SELECT size FROM blobs WHERE digest = new.blob)
		WHERE id = (SELECT min(repository) FROM (SELECT repository FROM repository_blobs WHERE blob = new.blob AND repository <> new.repository LIMIT 2) HAVING count(*) = 1);
END;

CREATE TRIGGER tags_deleted AFTER DELETE ON tags BEGIN
	UPDATE repositories SET tags = tags - 1 WHERE id = old.repository;
END;

CREATE TRIGGER tags_inserted AFTER INSERT ON tags BEGIN
	UPDATE repositories SET tags = tags + 1 WHERE id = new.repository;
END;
