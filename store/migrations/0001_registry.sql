-- The first schema. Times are unix seconds unless a comment says otherwise. Digests are stored as text once, in
-- digests, and everywhere else by their integer id: a 71-byte text in every reference row makes a store slow.

-- One row: which store this is. blobs/store.json holds the same id.
CREATE TABLE store (
	id         TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE digests (
	id     INTEGER PRIMARY KEY,
	digest TEXT    NOT NULL UNIQUE CHECK (
		(digest GLOB 'sha256:*' AND length(digest) = 71) OR (digest GLOB 'sha512:*' AND length(digest) = 135))
) STRICT;

-- manifests and tags count rows; triggers keep them, so that no statement can forget to.
CREATE TABLE repositories (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL UNIQUE,
	created_at INTEGER NOT NULL,
	manifests  INTEGER NOT NULL DEFAULT 0,
	tags       INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The catalog reads only this index.
CREATE INDEX repositories_catalog ON repositories (name) WHERE manifests > 0;

-- A row says: a file of this size was durable when the row was committed.
CREATE TABLE blobs (
	digest     INTEGER PRIMARY KEY REFERENCES digests (id) ON DELETE RESTRICT,
	size       INTEGER NOT NULL CHECK (size >= 0),
	created_at INTEGER NOT NULL
) STRICT;

-- A blob is readable through a repository exactly when its row is here. refs is the number of distinct manifests of
-- the repository that name the digest. At refs = 0 the blob is kept until keep_until (a lease).
CREATE TABLE repository_blobs (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	blob       INTEGER NOT NULL REFERENCES blobs (digest) ON DELETE RESTRICT,
	refs       INTEGER NOT NULL CHECK (refs >= 0),
	keep_until INTEGER NOT NULL,
	PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;

CREATE INDEX repository_blobs_blob ON repository_blobs (blob);

-- refs counts the distinct manifests of the repository that name this one. untagged_since is null while a tag points
-- here. subject adds no reference.
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

CREATE INDEX manifests_subject ON manifests (repository, subject, id) WHERE subject IS NOT NULL;

-- Apart from manifests, because lists and collection never read bodies.
CREATE TABLE manifest_bodies (
	manifest INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
	body     BLOB    NOT NULL
) STRICT;

-- Stored by digest, so that content pushed after the manifest that names it starts with the right count.
-- kind: 0 mentioned, 1 names a blob, 2 names a manifest (or a blob, in an index). needed: 1 when the manifest is
-- incomplete without it.
CREATE TABLE manifest_references (
	repository INTEGER NOT NULL,
	target     INTEGER NOT NULL REFERENCES digests (id) ON DELETE RESTRICT,
	manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
	kind       INTEGER NOT NULL,
	needed     INTEGER NOT NULL,
	PRIMARY KEY (repository, target, manifest)
) STRICT, WITHOUT ROWID;

CREATE INDEX manifest_references_manifest ON manifest_references (manifest);

CREATE TABLE tags (
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
	name       TEXT    NOT NULL,
	manifest   INTEGER NOT NULL REFERENCES manifests (id) ON DELETE RESTRICT,
	updated_at INTEGER NOT NULL,
	PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_manifest ON tags (manifest);

-- A log, not a root: every move and delete of a tag. from_digest is null for a new tag, to_digest for a deleted one.
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

CREATE INDEX tag_history_tag ON tag_history (repository, tag, id);

-- Upload sessions that hold bytes; the others live in memory alone. principal owns the session.
CREATE TABLE uploads (
	id          TEXT    PRIMARY KEY,
	repository  TEXT    NOT NULL,
	principal   TEXT    NOT NULL,
	algorithm   TEXT    NOT NULL,
	size        INTEGER NOT NULL,
	progress_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER manifests_inserted AFTER INSERT ON manifests BEGIN
	UPDATE repositories SET manifests = manifests + 1 WHERE id = new.repository;
END;

CREATE TRIGGER manifests_deleted AFTER DELETE ON manifests BEGIN
	UPDATE repositories SET manifests = manifests - 1 WHERE id = old.repository;
END;

CREATE TRIGGER tags_inserted AFTER INSERT ON tags BEGIN
	UPDATE repositories SET tags = tags + 1 WHERE id = new.repository;
END;

CREATE TRIGGER tags_deleted AFTER DELETE ON tags BEGIN
	UPDATE repositories SET tags = tags - 1 WHERE id = old.repository;
END;
