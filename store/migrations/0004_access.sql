-- Who may do what. Times are unix seconds. Actions are written as a list: pull,push,overwrite,delete,admin.

-- AUTOINCREMENT: the id of a user that was removed is never used again.
CREATE TABLE users (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	name       TEXT    NOT NULL UNIQUE,
	password   TEXT    NOT NULL, -- bcrypt
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE grants (
	user         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	repositories TEXT    NOT NULL, -- a pattern
	actions      TEXT    NOT NULL,
	PRIMARY KEY (user, repositories)
) STRICT, WITHOUT ROWID;

-- What everybody may do without logging in.
CREATE TABLE anonymous_grants (
	repositories TEXT PRIMARY KEY,
	actions      TEXT NOT NULL
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
CREATE INDEX tokens_user ON tokens (user);

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
CREATE INDEX audit_at ON audit (at);
-- What changes nothing: strangers can cause it, so there is a bound of its own.
CREATE INDEX audit_noise ON audit (id) WHERE action IN ('login', 'login failed', 'denied');
