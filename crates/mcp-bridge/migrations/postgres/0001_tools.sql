-- What a tool's definition was when it was first seen or decided on. State: 0 waits, 1 approved, 2 rejected,
-- 3 replaced by a later approval.
CREATE TABLE tool_pins (
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  digest BYTEA NOT NULL,
  definition TEXT NOT NULL,
  findings TEXT NOT NULL,
  state SMALLINT NOT NULL,
  seen_at BIGINT NOT NULL,
  decided_at BIGINT,
  -- Who, as JSON; none where the policy decided.
  decided_by TEXT,
  PRIMARY KEY (server, tool, digest)
);

CREATE UNIQUE INDEX tool_pins_approved ON tool_pins (server, tool) WHERE state = 1;

-- Goes up with every change of the pins, so that replicas see it.
CREATE TABLE tool_pins_revision (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  revision BIGINT NOT NULL
);

INSERT INTO tool_pins_revision VALUES (1, 0);

-- Only ever added to.
CREATE TABLE tool_decisions (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at BIGINT NOT NULL,
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  digest BYTEA NOT NULL,
  state SMALLINT NOT NULL,
  decided_by TEXT
);

CREATE TABLE tool_calls (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  team TEXT,
  user_id TEXT NOT NULL,
  key_id TEXT,
  run TEXT,
  privacy TEXT NOT NULL,
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  pin BYTEA,
  arguments BYTEA NOT NULL,
  decision TEXT NOT NULL,
  rule TEXT NOT NULL,
  outcome TEXT NOT NULL,
  micros BIGINT NOT NULL,
  trace TEXT NOT NULL,
  request TEXT NOT NULL
);

CREATE INDEX tool_calls_of_tenant ON tool_calls (tenant, id);
CREATE INDEX tool_calls_by_time ON tool_calls (at);

-- What arguments are hashed with.
CREATE TABLE tool_secrets (
  name TEXT PRIMARY KEY,
  secret BYTEA NOT NULL
);
