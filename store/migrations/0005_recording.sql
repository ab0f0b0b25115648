-- When use was not recorded, in unix seconds: the server was off, read-only, or this database is an old copy. What was
-- not recorded must not count as not used. The setting "recorded" is until when it was.
CREATE TABLE recording_gaps (
	began INTEGER PRIMARY KEY,
	ended INTEGER NOT NULL
) STRICT;

-- What the tag was when it left from_digest, so that it can be put back as it was. NULL in older entries.
ALTER TABLE tag_history ADD COLUMN pushed_at INTEGER;
ALTER TABLE tag_history ADD COLUMN last_used INTEGER;
ALTER TABLE tag_history ADD COLUMN pulls INTEGER;
