-- When use was not recorded, in unix seconds: the server was off, read-only, or this database is an old copy. What was
-- not recorded must not count as not used. The setting "recorded" is until when it was.
CREATE TABLE recording_gaps (
	began INTEGER PRIMARY KEY,
	ended INTEGER NOT NULL
) STRICT;
