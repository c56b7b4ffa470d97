-- What is long stands last: a row's first columns are read without it.
CREATE TABLE responses (
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  previous TEXT,
  private INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  made_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  input TEXT NOT NULL,
  response TEXT NOT NULL,
  PRIMARY KEY (tenant, id)
) STRICT;

CREATE INDEX responses_by_expiry ON responses (expires_at);

-- How much each tenant keeps.
CREATE TABLE kept (
  tenant TEXT NOT NULL PRIMARY KEY,
  bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER responses_kept AFTER INSERT ON responses BEGIN
  INSERT INTO kept (tenant, bytes) VALUES (NEW.tenant, NEW.bytes)
  ON CONFLICT (tenant) DO UPDATE SET bytes = kept.bytes + excluded.bytes;
END;

CREATE TRIGGER responses_gone AFTER DELETE ON responses BEGIN
  UPDATE kept SET bytes = bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;
