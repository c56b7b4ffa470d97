-- What a tool's definition was when it was first seen or decided on. State: 0 waits, 1 approved, 2 rejected,
-- 3 replaced by a later approval.
CREATE TABLE tool_pins (
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  digest BLOB NOT NULL,
  definition TEXT NOT NULL,
  findings TEXT NOT NULL,
  state INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  decided_at INTEGER,
  -- Who, as JSON; none where the policy decided.
  decided_by TEXT,
  PRIMARY KEY (server, tool, digest)
) STRICT;

CREATE UNIQUE INDEX tool_pins_approved ON tool_pins (server, tool) WHERE state = 1;

-- Goes up with every change of the pins, so that replicas see it.
CREATE TABLE tool_pins_revision (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL
) STRICT;

INSERT INTO tool_pins_revision VALUES (1, 0);

-- Only ever added to.
CREATE TABLE tool_decisions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  digest BLOB NOT NULL,
  state INTEGER NOT NULL,
  decided_by TEXT
) STRICT;

CREATE TABLE tool_calls (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  team TEXT,
  user_id TEXT NOT NULL,
  key_id TEXT,
  run TEXT,
  privacy TEXT NOT NULL,
  server TEXT NOT NULL,
  tool TEXT NOT NULL,
  pin BLOB,
  arguments BLOB NOT NULL,
  decision TEXT NOT NULL,
  rule TEXT NOT NULL,
  outcome TEXT NOT NULL,
  micros INTEGER NOT NULL,
  trace TEXT NOT NULL,
  request TEXT NOT NULL
) STRICT;

CREATE INDEX tool_calls_of_tenant ON tool_calls (tenant, id);
CREATE INDEX tool_calls_by_time ON tool_calls (at);

-- What arguments are hashed with.
CREATE TABLE tool_secrets (
  name TEXT PRIMARY KEY,
  secret BLOB NOT NULL
) STRICT;
