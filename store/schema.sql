CREATE INDEX manifest_references_manifest ON manifest_references (manifest);

CREATE INDEX manifests_subject ON manifests (repository, subject, id) WHERE subject IS NOT NULL;

CREATE INDEX repositories_catalog ON repositories (name) WHERE manifests > 0;

CREATE INDEX repository_blobs_blob ON repository_blobs (blob);

CREATE INDEX tag_history_tag ON tag_history (repository, tag, id);

CREATE INDEX tags_manifest ON tags (manifest);

CREATE TABLE blobs (
	digest     INTEGER PRIMARY KEY REFERENCES digests (id) ON DELETE RESTRICT,
	size       INTEGER NOT NULL CHECK (size >= 0),
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE digests (
	id     INTEGER PRIMARY KEY,
	digest TEXT    NOT NULL UNIQUE CHECK (
		(digest GLOB 'sha256:*' AND length(digest) = 71) OR (digest GLOB 'sha512:*' AND length(digest) = 135))
) STRICT;

CREATE TABLE manifest_bodies (
	manifest INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
	body     BLOB    NOT NULL
) STRICT;

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
	annotations    TEXT    NOT NULL, -- JSON object, or '' for none
	UNIQUE (repository, digest)
) STRICT;

CREATE TABLE repositories (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL UNIQUE,
	created_at INTEGER NOT NULL,
	manifests  INTEGER NOT NULL DEFAULT 0,
	tags       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE repository_blobs (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	blob       INTEGER NOT NULL REFERENCES blobs (digest) ON DELETE RESTRICT,
	refs       INTEGER NOT NULL CHECK (refs >= 0),
	keep_until INTEGER NOT NULL,
	PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;

CREATE TABLE store (
	id         TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tag_history (
	id          INTEGER PRIMARY KEY,
	repository  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	tag         TEXT    NOT NULL,
	from_digest INTEGER REFERENCES digests (id) ON DELETE RESTRICT,
	to_digest   INTEGER REFERENCES digests (id) ON DELETE RESTRICT,
	at          INTEGER NOT NULL,
	who         TEXT    NOT NULL,
	address     TEXT    NOT NULL
) STRICT;

CREATE TABLE tags (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	name       TEXT    NOT NULL,
	manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE RESTRICT,
	updated_at INTEGER NOT NULL,
	PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
	id          TEXT    PRIMARY KEY,
	repository  TEXT    NOT NULL,
	principal   TEXT    NOT NULL,
	algorithm   TEXT    NOT NULL,
	size        INTEGER NOT NULL,
	progress_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER manifests_deleted AFTER DELETE ON manifests BEGIN
	UPDATE repositories SET manifests = manifests - 1 WHERE id = old.repository;
END;

CREATE TRIGGER manifests_inserted AFTER INSERT ON manifests BEGIN
	UPDATE repositories SET manifests = manifests + 1 WHERE id = new.repository;
END;

CREATE TRIGGER tags_deleted AFTER DELETE ON tags BEGIN
	UPDATE repositories SET tags = tags - 1 WHERE id = old.repository;
END;

CREATE TRIGGER tags_inserted AFTER INSERT ON tags BEGIN
	UPDATE repositories SET tags = tags + 1 WHERE id = new.repository;
END;
