-- Sessions get a key of their own, revocations more kinds; API keys and the audit trail come in.
-- Sessions of before end here: their refresh tokens were made with a key that is no longer used.
DROP TABLE sessions;
CREATE TABLE sessions (
    sid             TEXT    NOT NULL UNIQUE,
    user_id         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter         INTEGER NOT NULL DEFAULT 0, -- of the refresh token in force
    mac_key         BLOB    NOT NULL CHECK (length(mac_key) = 32), -- makes its refresh tokens
    created_at_ms   INTEGER NOT NULL,
    last_used_at_ms INTEGER NOT NULL,           -- log-in or last rotation
    ends_at_ms      INTEGER NOT NULL,           -- absolute end, however often it is used
    ended_at_ms     INTEGER,                    -- NULL while it lives
    address         TEXT,                       -- where the log-in came from
    user_agent      TEXT
) STRICT;
CREATE INDEX sessions_alive ON sessions (user_id) WHERE ended_at_ms IS NULL;
CREATE INDEX sessions_by_end ON sessions (ends_at_ms);

CREATE TABLE revocations_new (
    revision     INTEGER PRIMARY KEY AUTOINCREMENT, -- grows with every fact; gateways pull what they have not seen
    kind         TEXT    NOT NULL CHECK (kind IN ('token', 'session', 'user', 'key', 'api_key')),
    value        TEXT    NOT NULL,                  -- jti, sid, the account's id, kid, the API key's id
    not_before_s INTEGER NOT NULL DEFAULT 0,        -- kind user: tokens issued at or before it are revoked
    until_s      INTEGER NOT NULL                   -- no token of theirs can be alive after it
) STRICT;
INSERT INTO revocations_new SELECT revision, kind, value, not_before_s, until_s FROM revocations;
DROP TABLE revocations;
ALTER TABLE revocations_new RENAME TO revocations;
CREATE INDEX revocations_by_until ON revocations (until_s);

CREATE TABLE api_keys (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL,           -- for people
    prefix          TEXT    NOT NULL UNIQUE,    -- public part of the key
    hash            BLOB    NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the whole key, which is random
    user_id         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role            TEXT    NOT NULL CHECK (role IN ('candidat', 'recruteur', 'admin')),
    routes          TEXT    NOT NULL,           -- JSON array of route names; empty: every route that takes keys
    created_by      INTEGER,                    -- account of the admin; NULL: the command line
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER,                    -- NULL: never
    last_used_at_ms INTEGER,
    revoked_at_ms   INTEGER                     -- NULL while it is good
) STRICT;
CREATE INDEX api_keys_of_user ON api_keys (user_id);

CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY, -- 1, 2, 3 …: no gap
    at_ms  INTEGER NOT NULL,
    entry  TEXT    NOT NULL,    -- JSON, as hashed
    hash   BLOB    NOT NULL CHECK (length(hash) = 32) -- SHA-256 of the previous hash and the entry
) STRICT;
CREATE INDEX audit_by_time ON audit (at_ms);

-- One row: where the kept part of the chain begins and ends.
CREATE TABLE audit_head (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    anchor_seq  INTEGER NOT NULL, -- the last record that retention took away
    anchor_hash BLOB    NOT NULL,
    last_seq    INTEGER NOT NULL,
    last_hash   BLOB    NOT NULL
) STRICT;
INSERT INTO audit_head VALUES (1, 0, zeroblob(32), 0, zeroblob(32));
