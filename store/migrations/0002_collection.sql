-- Collection, and what decides about it. Times are unix seconds.

-- last_used is any authorised GET or HEAD, credited to the tags at that digest and to the indexes that name it.
-- cache marks BuildKit cache manifests, which are kept for a shorter time.
ALTER TABLE manifests ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE manifests ADD COLUMN cache INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tags ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tags ADD COLUMN pulls INTEGER NOT NULL DEFAULT 0;

-- Since when use is recorded: a rule about use must not look further back. 0 until the store is next opened.
ALTER TABLE store ADD COLUMN tracking_since INTEGER NOT NULL DEFAULT 0;

-- What collection looks at, without reading what is in use.
CREATE INDEX manifests_untagged ON manifests (id) WHERE untagged_since IS NOT NULL;
CREATE INDEX repository_blobs_loose ON repository_blobs (blob, repository, keep_until) WHERE refs = 0;

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

-- One row: the clock as it was last seen, so that a clock that jumps is noticed.
CREATE TABLE clock (
	seen_at     INTEGER NOT NULL,
	boot        TEXT    NOT NULL, -- the kernel's boot id
	uptime      INTEGER NOT NULL, -- seconds since boot, when seen
	doubt_since INTEGER NOT NULL, -- when a jump forward was noticed, 0 when the clock is trusted
	trusted_for INTEGER NOT NULL  -- seconds of uptime since then without another jump
) STRICT;

-- number counts the moves of one tag from 1; restore names an entry by it, so it never changes. undoes is the number of
-- the entry that this one undid: together they are no longer in effect.
ALTER TABLE tag_history ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tag_history ADD COLUMN undoes INTEGER;
UPDATE tag_history SET number = n.number FROM (
	SELECT id, row_number() OVER (PARTITION BY repository, tag ORDER BY id) AS number FROM tag_history
) AS n WHERE tag_history.id = n.id;
DROP INDEX tag_history_tag;
CREATE UNIQUE INDEX tag_history_tag ON tag_history (repository, tag, number);
CREATE INDEX tag_history_undoes ON tag_history (repository, tag, undoes) WHERE undoes IS NOT NULL;
-- Its entries are ordered by id.
CREATE INDEX tag_history_repository ON tag_history (repository);

-- Who removed which manifest, so that the history can say why it leads nowhere.
CREATE TABLE deleted_manifests (
	id         INTEGER PRIMARY KEY,
	repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	digest     INTEGER NOT NULL REFERENCES digests (id) ON DELETE RESTRICT,
	at         INTEGER NOT NULL,
	who        TEXT    NOT NULL,
	address    TEXT    NOT NULL,
	UNIQUE (repository, digest)
) STRICT;

-- Sums in bytes that triggers keep: making them anew takes half a second on a large store. blob_bytes of store is what
-- the files below blobs/ take. Of a repository, blob_bytes and manifest_bytes are what is readable through it, only_here
-- is the part of blob_bytes that no other repository has.
ALTER TABLE store ADD COLUMN blob_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN blob_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN manifest_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN only_here INTEGER NOT NULL DEFAULT 0;

UPDATE store SET blob_bytes = (SELECT COALESCE(sum(size), 0) FROM blobs);
UPDATE repositories SET
	blob_bytes = (SELECT COALESCE(sum(b.size), 0) FROM repository_blobs rb JOIN blobs b ON b.digest = rb.blob WHERE rb.repository = repositories.id),
	manifest_bytes = (SELECT COALESCE(sum(m.size), 0) FROM manifests m WHERE m.repository = repositories.id),
	only_here = (SELECT COALESCE(sum(b.size), 0) FROM repository_blobs rb JOIN blobs b ON b.digest = rb.blob WHERE rb.repository = repositories.id
		AND NOT EXISTS (SELECT 1 FROM repository_blobs o WHERE o.blob = rb.blob AND o.repository <> rb.repository));

CREATE TRIGGER blobs_inserted AFTER INSERT ON blobs BEGIN
	UPDATE store SET blob_bytes = blob_bytes + new.size;
END;

CREATE TRIGGER blobs_deleted AFTER DELETE ON blobs BEGIN
	UPDATE store SET blob_bytes = blob_bytes - old.size;
END;

-- The second statement of each looks for the one other repository that has the blob, and reads at most two rows for it.
CREATE TRIGGER repository_blobs_inserted AFTER INSERT ON repository_blobs BEGIN
	UPDATE repositories SET blob_bytes = blob_bytes + b.size,
		only_here = only_here + CASE WHEN EXISTS (SELECT 1 FROM repository_blobs WHERE blob = new.blob AND repository <> new.repository) THEN 0 ELSE b.size END
		FROM blobs b WHERE b.digest = new.blob AND repositories.id = new.repository;
	UPDATE repositories SET only_here = only_here - (SELECT size FROM blobs WHERE digest = new.blob)
		WHERE id = (SELECT min(repository) FROM (SELECT repository FROM repository_blobs WHERE blob = new.blob AND repository <> new.repository LIMIT 2) HAVING count(*) = 1);
END;

CREATE TRIGGER repository_blobs_deleted AFTER DELETE ON repository_blobs BEGIN
	UPDATE repositories SET blob_bytes = blob_bytes - b.size,
		only_here = only_here - CASE WHEN EXISTS (SELECT 1 FROM repository_blobs WHERE blob = old.blob) THEN 0 ELSE b.size END
		FROM blobs b WHERE b.digest = old.blob AND repositories.id = old.repository;
	UPDATE repositories SET only_here = only_here + (SELECT size FROM blobs WHERE digest = old.blob)
		WHERE id = (SELECT min(repository) FROM (SELECT repository FROM repository_blobs WHERE blob = old.blob LIMIT 2) HAVING count(*) = 1);
END;

DROP TRIGGER manifests_inserted;
CREATE TRIGGER manifests_inserted AFTER INSERT ON manifests BEGIN
	UPDATE repositories SET manifests = manifests + 1, manifest_bytes = manifest_bytes + new.size WHERE id = new.repository;
END;

DROP TRIGGER manifests_deleted;
CREATE TRIGGER manifests_deleted AFTER DELETE ON manifests BEGIN
	UPDATE repositories SET manifests = manifests - 1, manifest_bytes = manifest_bytes - old.size WHERE id = old.repository;
END;
