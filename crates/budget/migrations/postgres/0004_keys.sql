-- API keys. A secret is kept as its hash alone; a key that has ended stays, for what it spent.
CREATE TABLE keys (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant     TEXT NOT NULL,
    -- Whom it stands for and what it may do, as JSON.
    terms      TEXT NOT NULL,
    -- How its secret begins.
    begins     TEXT NOT NULL,
    -- SHA-256 of its secret, and of the one before, which is good until `old_until`.
    hash       BYTEA NOT NULL UNIQUE,
    old_hash   BYTEA UNIQUE,
    old_until  BIGINT,
    created_at BIGINT NOT NULL,
    rotated_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX keys_of_tenant ON keys (tenant, id);
