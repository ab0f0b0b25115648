-- Logins of browsers. Times are unix seconds. Users of an htpasswd file have them too, so user_id refers to nothing.
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

-- Logging out changes nothing either.
DROP INDEX audit_noise;
CREATE INDEX audit_noise ON audit (id) WHERE action IN ('login', 'login failed', 'logout', 'denied');
