-- What operators decided about single users and addresses.
CREATE TABLE limit_overrides (
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    policy     TEXT    NOT NULL, -- a name that routes.yaml may or may not have
    rate       TEXT    NOT NULL, -- such as 500/min
    burst      INTEGER,          -- NULL: the policy's own
    until_s    INTEGER NOT NULL, -- it ends then
    made_at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, policy)
) STRICT;

CREATE TABLE address_blocks (
    network    TEXT    NOT NULL PRIMARY KEY, -- such as 192.0.2.7/32 or 2001:db8::/64, without host bits
    until_s    INTEGER NOT NULL,             -- it ends then
    reason     TEXT,                         -- for people
    made_at_ms INTEGER NOT NULL
) STRICT;

-- One row, changed before every change of the two: gateways read them when its stamp is another.
CREATE TABLE limit_rules (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    stamp INTEGER NOT NULL -- random
) STRICT;
INSERT INTO limit_rules VALUES (1, 0);
