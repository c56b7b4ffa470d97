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
    tier               BIGINT NOT NULL,
    input_tokens       BIGINT NOT NULL,
    cached_tokens      BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens      BIGINT NOT NULL,
    reasoning_tokens   BIGINT NOT NULL,
    estimated          BOOLEAN NOT NULL,
    cost               BIGINT NOT NULL,
    started_at         BIGINT NOT NULL,
    latency_micros     BIGINT NOT NULL,
    first_token_micros BIGINT NOT NULL,
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
    number BIGINT NOT NULL,
    record TEXT NOT NULL,
    hash   BYTEA NOT NULL,
    PRIMARY KEY (tenant, number)
);
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    EXECUTE FUNCTION refuse_change();
