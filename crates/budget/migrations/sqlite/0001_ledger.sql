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
    -- The periods that it counts in, as JSON: [["daily", starts_at], …].
    counted    TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER,
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

-- A reservation's balances and its entry change with it, whoever changes it: one statement moves
-- money, so one way to the database does.
CREATE TRIGGER reservations_begin AFTER INSERT ON reservations WHEN NEW.state = 'held'
BEGIN
    INSERT INTO balances (tenant, user, period, starts_at, held)
        SELECT NEW.tenant, NEW.user, value ->> 0, value ->> 1, NEW.amount
        FROM json_each(NEW.counted) WHERE true
        ON CONFLICT DO UPDATE SET held = held + excluded.held;
    INSERT INTO entries (tenant, user, reservation, kind, amount, at)
        VALUES (NEW.tenant, NEW.user, NEW.id, 'hold', NEW.amount, NEW.made_at);
END;
CREATE TRIGGER reservations_end AFTER UPDATE OF state ON reservations
BEGIN
    UPDATE balances
        SET spent = spent + coalesce(NEW.settled, 0),
            held = held - iif(OLD.state = 'held', OLD.amount, 0)
        WHERE tenant = NEW.tenant AND user = NEW.user
            AND (period, starts_at) IN (SELECT value ->> 0, value ->> 1 FROM json_each(NEW.counted));
    INSERT INTO entries (tenant, user, reservation, kind, amount, at)
        VALUES (NEW.tenant, NEW.user, NEW.id,
            CASE NEW.state WHEN 'settled' THEN 'settle' WHEN 'released' THEN 'release' ELSE 'expire' END,
            coalesce(NEW.settled, NEW.amount), NEW.ended_at);
END;
