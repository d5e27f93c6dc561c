-- Accounts, their sessions, and what was revoked. Times end in their unit: _ms or _s since the Unix epoch.
CREATE TABLE users (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    email_key           TEXT    NOT NULL UNIQUE, -- NFKC and lower case: one account per address
    email               TEXT    NOT NULL,        -- as given
    full_name           TEXT    NOT NULL,
    role                TEXT    NOT NULL CHECK (role IN ('candidat', 'recruteur', 'admin')),
    password_hash       TEXT    NOT NULL,        -- PHC string
    is_active           INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    tokens_not_before_s INTEGER NOT NULL DEFAULT 0, -- access tokens issued at or before this second are revoked
    created_at_ms       INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    sid             TEXT    NOT NULL UNIQUE,
    user_id         INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter         INTEGER NOT NULL DEFAULT 0, -- of the refresh token in force
    created_at_ms   INTEGER NOT NULL,
    last_used_at_ms INTEGER NOT NULL,           -- log-in or last rotation
    ends_at_ms      INTEGER NOT NULL,           -- absolute end, however often it is used
    ended_at_ms     INTEGER                     -- NULL while it lives
) STRICT;

CREATE INDEX sessions_alive ON sessions (user_id) WHERE ended_at_ms IS NULL;
CREATE INDEX sessions_by_end ON sessions (ends_at_ms);

CREATE TABLE revocations (
    revision     INTEGER PRIMARY KEY AUTOINCREMENT, -- grows with every fact; gateways pull what they have not seen
    kind         TEXT    NOT NULL CHECK (kind IN ('session', 'user')),
    value        TEXT    NOT NULL,                  -- sid, or the account's id
    not_before_s INTEGER NOT NULL DEFAULT 0,        -- kind user: tokens issued at or before it are revoked
    until_s      INTEGER NOT NULL                   -- no token of theirs can be alive after it
) STRICT;

CREATE INDEX revocations_by_until ON revocations (until_s);
