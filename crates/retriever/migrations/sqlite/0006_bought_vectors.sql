-- Vectors that were paid for and are of no stored passage yet: their document failed later, or waits.
CREATE TABLE vectors (
    tenant TEXT NOT NULL,
    sha256 BLOB NOT NULL, -- of what the vector is of
    vector BLOB NOT NULL, -- 32-bit floats, little-endian
    at     INTEGER NOT NULL, -- when it came, in milliseconds since 1970
    PRIMARY KEY (tenant, sha256)
) WITHOUT ROWID;

CREATE INDEX vectors_at ON vectors (at);

-- Who made a job pays for its vectors. Jobs that were there before are of who calls without a key.
ALTER TABLE jobs ADD COLUMN team TEXT;
ALTER TABLE jobs ADD COLUMN user TEXT NOT NULL DEFAULT 'local';
ALTER TABLE jobs ADD COLUMN key TEXT;

-- How much of a tenant waits in jobs.
CREATE TABLE waiting (
    tenant TEXT NOT NULL PRIMARY KEY,
    tasks  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO waiting
SELECT tenant, COUNT(*), SUM(LENGTH(content)) FROM tasks WHERE content IS NOT NULL AND state <> 'failed' GROUP BY tenant;

CREATE TRIGGER tasks_added AFTER INSERT ON tasks WHEN NEW.content IS NOT NULL AND NEW.state <> 'failed' BEGIN
    INSERT INTO waiting VALUES (NEW.tenant, 1, LENGTH(NEW.content))
    ON CONFLICT DO UPDATE SET tasks = tasks + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER tasks_removed AFTER DELETE ON tasks WHEN OLD.content IS NOT NULL AND OLD.state <> 'failed' BEGIN
    UPDATE waiting SET tasks = tasks - 1, bytes = bytes - LENGTH(OLD.content) WHERE tenant = OLD.tenant;
END;

CREATE TRIGGER tasks_waited AFTER UPDATE OF content, state ON tasks
WHEN OLD.content IS NOT NULL AND OLD.state <> 'failed' BEGIN
    UPDATE waiting SET tasks = tasks - 1, bytes = bytes - LENGTH(OLD.content) WHERE tenant = OLD.tenant;
END;

CREATE TRIGGER tasks_wait AFTER UPDATE OF content, state ON tasks
WHEN NEW.content IS NOT NULL AND NEW.state <> 'failed' BEGIN
    INSERT INTO waiting VALUES (NEW.tenant, 1, LENGTH(NEW.content))
    ON CONFLICT DO UPDATE SET tasks = tasks + 1, bytes = bytes + excluded.bytes;
END;

DROP INDEX tasks_waiting;
