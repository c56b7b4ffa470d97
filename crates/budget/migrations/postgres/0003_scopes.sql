-- Every scope of a call has an account: its tenant, team, user, key and run. What they may do is decided
-- by the ledger, which holds the accounts' rows (PostgreSQL) or the database (SQLite) while it does.
DROP TRIGGER reservations_begin ON reservations;
DROP TRIGGER reservations_end ON reservations;
DROP FUNCTION begin_reservation;
DROP FUNCTION end_reservation;

-- What a scope may spend, has spent and holds in the windows that hold `moved_at`.
CREATE TABLE accounts (
    tenant   TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('tenant', 'team', 'user', 'key', 'run')),
    name     TEXT NOT NULL,
    moved_at BIGINT NOT NULL,
    limit_daily   BIGINT CHECK (limit_daily >= 0),
    limit_weekly  BIGINT CHECK (limit_weekly >= 0),
    limit_monthly BIGINT CHECK (limit_monthly >= 0),
    limit_total   BIGINT CHECK (limit_total >= 0),
    spent_daily   BIGINT NOT NULL DEFAULT 0,
    spent_weekly  BIGINT NOT NULL DEFAULT 0,
    spent_monthly BIGINT NOT NULL DEFAULT 0,
    spent_total   BIGINT NOT NULL DEFAULT 0,
    held_daily    BIGINT NOT NULL DEFAULT 0 CHECK (held_daily >= 0),
    held_weekly   BIGINT NOT NULL DEFAULT 0 CHECK (held_weekly >= 0),
    held_monthly  BIGINT NOT NULL DEFAULT 0 CHECK (held_monthly >= 0),
    held_total    BIGINT NOT NULL DEFAULT 0 CHECK (held_total >= 0),
    PRIMARY KEY (tenant, kind, name)
) WITH (fillfactor = 70);

-- The same in windows that are over.
CREATE TABLE past (
    tenant    TEXT NOT NULL,
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    period    TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    spent     BIGINT NOT NULL,
    held      BIGINT NOT NULL CHECK (held >= 0),
    PRIMARY KEY (tenant, kind, name, period, starts_at)
);

-- History: rows are only ever added, and what is spent and held is their sum.
CREATE TABLE history (
    number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT NOT NULL,
    reservation TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('hold', 'settle', 'release', 'expire', 'correct')),
    spent       BIGINT NOT NULL,
    held        BIGINT NOT NULL,
    -- As JSON: ["tenant", "user:NAME", …].
    scopes      TEXT NOT NULL,
    -- The moment in whose periods it counts.
    counts_at   BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',
    author      TEXT NOT NULL DEFAULT ''
);

-- Shares of limits that somebody is to be told of, once each.
CREATE TABLE alerts (
    tenant    TEXT NOT NULL,
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    period    TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    percent   BIGINT NOT NULL,
    limited   BIGINT NOT NULL,
    spent     BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    -- When it is sent again, and how often it was; told when `told_at` says.
    next_at   BIGINT NOT NULL,
    attempts  BIGINT NOT NULL DEFAULT 0,
    told_at   BIGINT,
    PRIMARY KEY (tenant, kind, name, period, starts_at, percent)
);
CREATE INDEX alerts_to_tell ON alerts (next_at) WHERE told_at IS NULL;

-- What there was: users alone had balances.
INSERT INTO accounts (tenant, kind, name, moved_at, limit_daily, limit_weekly, limit_monthly, limit_total,
    spent_daily, spent_weekly, spent_monthly, spent_total, held_daily, held_weekly, held_monthly, held_total)
SELECT seen.tenant, 'user', seen.payer, coalesce((
        SELECT max(starts_at) FROM balances WHERE balances.tenant = seen.tenant
            AND balances.payer = seen.payer AND period = 'daily'), 0),
    (SELECT amount FROM limits WHERE limits.tenant = seen.tenant AND limits.payer = seen.payer AND period = 'daily'),
    (SELECT amount FROM limits WHERE limits.tenant = seen.tenant AND limits.payer = seen.payer AND period = 'weekly'),
    (SELECT amount FROM limits WHERE limits.tenant = seen.tenant AND limits.payer = seen.payer AND period = 'monthly'),
    (SELECT amount FROM limits WHERE limits.tenant = seen.tenant AND limits.payer = seen.payer AND period = 'total'),
    coalesce((SELECT spent FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'daily' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT spent FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'weekly' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT spent FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'monthly' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT spent FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'total' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT held FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'daily' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT held FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'weekly' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT held FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'monthly' ORDER BY starts_at DESC LIMIT 1), 0),
    coalesce((SELECT held FROM balances WHERE balances.tenant = seen.tenant AND balances.payer = seen.payer
        AND period = 'total' ORDER BY starts_at DESC LIMIT 1), 0)
FROM (SELECT tenant, payer FROM balances UNION SELECT tenant, payer FROM limits) AS seen;
INSERT INTO past (tenant, kind, name, period, starts_at, spent, held)
SELECT tenant, 'user', payer, period, starts_at, spent, held FROM balances AS one
WHERE starts_at < (SELECT max(starts_at) FROM balances WHERE balances.tenant = one.tenant
    AND balances.payer = one.payer AND balances.period = one.period);
INSERT INTO history (tenant, reservation, kind, spent, held, scopes, counts_at, at)
SELECT entries.tenant, entries.reservation, entries.kind,
    CASE entries.kind WHEN 'settle' THEN entries.amount ELSE 0 END,
    CASE WHEN entries.kind = 'hold' THEN entries.amount
        WHEN entries.kind = 'settle' AND EXISTS (SELECT 1 FROM entries AS before
            WHERE before.tenant = entries.tenant AND before.reservation = entries.reservation
                AND before.kind = 'expire') THEN 0
        ELSE -reservations.amount END,
    json_build_array('user:' || entries.payer)::TEXT, reservations.made_at, entries.at
FROM entries JOIN reservations
    ON reservations.tenant = entries.tenant AND reservations.id = entries.reservation
ORDER BY entries.number;

ALTER TABLE reservations ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';
UPDATE reservations SET scopes = json_build_array('user:' || payer)::TEXT WHERE counted <> '[]'::JSONB;
ALTER TABLE reservations DROP COLUMN payer, DROP COLUMN counted, ALTER COLUMN scopes DROP DEFAULT;
DROP TABLE entries, balances, limits;
CREATE TRIGGER history_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    EXECUTE FUNCTION refuse_change();
