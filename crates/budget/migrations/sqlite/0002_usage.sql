-- A row a model call: money is nano-USD, times are milliseconds since 1970.
CREATE TABLE usage (
    id                 TEXT NOT NULL PRIMARY KEY,
    tenant             TEXT NOT NULL,
    team               TEXT NOT NULL,
    payer              TEXT NOT NULL,
    key                TEXT NOT NULL,
    run                TEXT NOT NULL,
    route              TEXT NOT NULL,
    provider           TEXT NOT NULL,
    model              TEXT NOT NULL,
    tier               INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    estimated          INTEGER NOT NULL,
    cost               INTEGER NOT NULL,
    started_at         INTEGER NOT NULL,
    latency_micros     INTEGER NOT NULL,
    first_token_micros INTEGER NOT NULL,
    outcome            TEXT NOT NULL,
    privacy            TEXT NOT NULL,
    prompt_version     TEXT NOT NULL,
    reason             TEXT NOT NULL,
    request_id         TEXT NOT NULL,
    reservation        TEXT NOT NULL
);
CREATE INDEX usage_by_time ON usage (tenant, started_at);

-- Private calls, each with the hash of itself and the one before: rows are only ever added.
CREATE TABLE audit (
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,
    record TEXT NOT NULL,
    hash   BLOB NOT NULL,
    PRIMARY KEY (tenant, number)
);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is immutable'); END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is immutable'); END;
