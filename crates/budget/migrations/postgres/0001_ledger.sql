-- Money is nano-USD, times are milliseconds since 1970.
CREATE TABLE limits (
    tenant TEXT NOT NULL,
    payer  TEXT NOT NULL,
    period TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (tenant, payer, period)
);

-- What a user settled and holds in one period; every period is counted, limited or not.
CREATE TABLE balances (
    tenant    TEXT NOT NULL,
    payer     TEXT NOT NULL,
    period    TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    spent     BIGINT NOT NULL DEFAULT 0,
    held      BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (tenant, payer, period, starts_at)
);
CREATE INDEX balances_by_spend ON balances (tenant, period, starts_at, spent DESC);

CREATE TABLE reservations (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    payer      TEXT NOT NULL,
    amount     BIGINT NOT NULL,
    settled    BIGINT,
    state      TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released', 'expired')),
    made_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX reservations_to_expire ON reservations (expires_at) WHERE state = 'held';

-- History: rows are only ever added.
CREATE TABLE entries (
    number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT NOT NULL,
    payer       TEXT NOT NULL,
    reservation TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('hold', 'settle', 'release', 'expire')),
    amount      BIGINT NOT NULL,
    at          BIGINT NOT NULL
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'entries are immutable'; END $$;
CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    EXECUTE FUNCTION refuse_change();
