-- Money is nano-USD, times are milliseconds since 1970.
CREATE TABLE limits (
    tenant TEXT NOT NULL,
    user   TEXT NOT NULL,
    period TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (tenant, user, period)
) WITHOUT ROWID;

-- What a user settled and holds in one period; every period is counted, limited or not.
CREATE TABLE balances (
    tenant    TEXT NOT NULL,
    user      TEXT NOT NULL,
    period    TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    spent     INTEGER NOT NULL DEFAULT 0,
    held      INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (tenant, user, period, starts_at)
) WITHOUT ROWID;
CREATE INDEX balances_by_spend ON balances (tenant, period, starts_at, spent DESC);

CREATE TABLE reservations (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    user       TEXT NOT NULL,
    amount     INTEGER NOT NULL,
    settled    INTEGER,
    state      TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released', 'expired')),
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX reservations_to_expire ON reservations (expires_at) WHERE state = 'held';

-- History: rows are only ever added.
CREATE TABLE entries (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    user        TEXT NOT NULL,
    reservation TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('hold', 'settle', 'release', 'expire')),
    amount      INTEGER NOT NULL,
    at          INTEGER NOT NULL
);
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are immutable'); END;
CREATE TRIGGER entries_remain BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are immutable'); END;
