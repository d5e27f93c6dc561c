-- What operators decided about single users and addresses.
CREATE TABLE limit_overrides (
    user_id    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    policy     TEXT   NOT NULL, -- a name that routes.yaml may or may not have
    rate       TEXT   NOT NULL, -- such as 500/min
    burst      BIGINT,          -- NULL: the policy's own
    until_s    BIGINT NOT NULL, -- it ends then
    made_at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, policy)
);

CREATE TABLE address_blocks (
    network    TEXT   PRIMARY KEY, -- such as 192.0.2.7/32 or 2001:db8::/64, without host bits
    until_s    BIGINT NOT NULL,    -- it ends then
    reason     TEXT,               -- for people
    made_at_ms BIGINT NOT NULL
);

-- One row, changed before every change of the two: who changes them locks it, and gateways read them when its stamp is
-- another.
CREATE TABLE limit_rules (
    one_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (one_row),
    stamp   BIGINT  NOT NULL -- random
);
INSERT INTO limit_rules VALUES (true, 0);
