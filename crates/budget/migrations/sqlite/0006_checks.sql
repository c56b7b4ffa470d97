-- SQLite looks a constant up in a list of three or more by building a table of the list for every
-- statement, which took more time than the statement itself. Comparisons say the same.

CREATE TABLE accounts_checked (
    tenant   TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind = 'tenant' OR kind = 'team' OR kind = 'user' OR kind = 'key' OR kind = 'run'),
    name     TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    limit_daily   INTEGER CHECK (limit_daily >= 0),
    limit_weekly  INTEGER CHECK (limit_weekly >= 0),
    limit_monthly INTEGER CHECK (limit_monthly >= 0),
    limit_total   INTEGER CHECK (limit_total >= 0),
    spent_daily   INTEGER NOT NULL DEFAULT 0,
    spent_weekly  INTEGER NOT NULL DEFAULT 0,
    spent_monthly INTEGER NOT NULL DEFAULT 0,
    spent_total   INTEGER NOT NULL DEFAULT 0,
    held_daily    INTEGER NOT NULL DEFAULT 0 CHECK (held_daily >= 0),
    held_weekly   INTEGER NOT NULL DEFAULT 0 CHECK (held_weekly >= 0),
    held_monthly  INTEGER NOT NULL DEFAULT 0 CHECK (held_monthly >= 0),
    held_total    INTEGER NOT NULL DEFAULT 0 CHECK (held_total >= 0),
    PRIMARY KEY (tenant, kind, name)
) WITHOUT ROWID;
INSERT INTO accounts_checked SELECT * FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_checked RENAME TO accounts;

CREATE TABLE reservations_checked (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    amount     INTEGER NOT NULL,
    settled    INTEGER,
    state      TEXT NOT NULL CHECK (state = 'held' OR state = 'settled' OR state = 'released' OR state = 'expired'),
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER,
    -- As JSON: ["tenant", "user:NAME", …].
    scopes     TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
INSERT INTO reservations_checked
SELECT tenant, id, amount, settled, state, made_at, expires_at, ended_at, scopes FROM reservations;
DROP TABLE reservations;
ALTER TABLE reservations_checked RENAME TO reservations;
CREATE INDEX reservations_to_expire ON reservations (expires_at) WHERE state = 'held';

CREATE TABLE history_checked (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    reservation TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind = 'hold' OR kind = 'settle' OR kind = 'release' OR kind = 'expire' OR kind = 'correct'),
    spent       INTEGER NOT NULL,
    held        INTEGER NOT NULL,
    -- As JSON: ["tenant", "user:NAME", …].
    scopes      TEXT NOT NULL,
    -- The moment in whose periods it counts.
    counts_at   INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',
    author      TEXT NOT NULL DEFAULT ''
);
INSERT INTO history_checked
SELECT number, tenant, reservation, kind, spent, held, scopes, counts_at, at, reason, author FROM history;
DROP TABLE history;
ALTER TABLE history_checked RENAME TO history;
CREATE TRIGGER history_stays BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'the history is immutable'); END;
CREATE TRIGGER history_remains BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'the history is immutable'); END;
