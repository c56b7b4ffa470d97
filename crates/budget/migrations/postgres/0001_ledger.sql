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
    -- The periods that it counts in: [["daily", starts_at], …].
    counted    JSONB NOT NULL,
    made_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT,
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

-- A reservation's balances and its entry change with it, whoever changes it.
CREATE FUNCTION begin_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO balances (tenant, payer, period, starts_at, held)
        SELECT NEW.tenant, NEW.payer, value ->> 0, (value ->> 1)::BIGINT, NEW.amount
        FROM jsonb_array_elements(NEW.counted)
        ON CONFLICT (tenant, payer, period, starts_at)
            DO UPDATE SET held = balances.held + excluded.held;
    INSERT INTO entries (tenant, payer, reservation, kind, amount, at)
        VALUES (NEW.tenant, NEW.payer, NEW.id, 'hold', NEW.amount, NEW.made_at);
    RETURN NULL;
END $$;
CREATE TRIGGER reservations_begin AFTER INSERT ON reservations
    FOR EACH ROW WHEN (NEW.state = 'held') EXECUTE FUNCTION begin_reservation();

CREATE FUNCTION end_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE balances
        SET spent = spent + coalesce(NEW.settled, 0),
            held = held - CASE OLD.state WHEN 'held' THEN OLD.amount ELSE 0 END
        FROM jsonb_array_elements(NEW.counted)
        WHERE tenant = NEW.tenant AND payer = NEW.payer
            AND period = value ->> 0 AND starts_at = (value ->> 1)::BIGINT;
    INSERT INTO entries (tenant, payer, reservation, kind, amount, at)
        VALUES (NEW.tenant, NEW.payer, NEW.id,
            CASE NEW.state WHEN 'settled' THEN 'settle' WHEN 'released' THEN 'release' ELSE 'expire' END,
            coalesce(NEW.settled, NEW.amount), NEW.ended_at);
    RETURN NULL;
END $$;
CREATE TRIGGER reservations_end AFTER UPDATE OF state ON reservations
    FOR EACH ROW EXECUTE FUNCTION end_reservation();
