CREATE TABLE responses (
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  previous TEXT,
  private BOOLEAN NOT NULL,
  bytes BIGINT NOT NULL,
  made_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  input TEXT NOT NULL,
  response TEXT NOT NULL,
  PRIMARY KEY (tenant, id)
);

CREATE INDEX responses_by_expiry ON responses (expires_at);

-- How much each tenant keeps, in sixteen parts: who keeps something waits for one of them only.
CREATE TABLE responses_kept (
  tenant TEXT NOT NULL,
  part INTEGER NOT NULL,
  bytes BIGINT NOT NULL,
  PRIMARY KEY (tenant, part)
);

CREATE FUNCTION responses_changed() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO responses_kept (tenant, part, bytes)
    VALUES (NEW.tenant, hashtext(NEW.id) & 15, NEW.bytes)
    ON CONFLICT (tenant, part) DO UPDATE SET bytes = responses_kept.bytes + EXCLUDED.bytes;
  ELSE
    UPDATE responses_kept SET bytes = bytes - OLD.bytes
    WHERE tenant = OLD.tenant AND part = hashtext(OLD.id) & 15;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER responses_changed AFTER INSERT OR DELETE ON responses
FOR EACH ROW EXECUTE FUNCTION responses_changed();
