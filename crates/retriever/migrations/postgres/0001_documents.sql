-- Texts are compared byte by byte, as they are in SQLite and here in memory.

-- A tenant's collections.
CREATE TABLE collections (
    tenant     TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    model      TEXT NOT NULL, -- its identity; empty without one
    dimension  BIGINT NOT NULL,
    created_at BIGINT NOT NULL, -- milliseconds since 1970
    generation BIGINT NOT NULL DEFAULT 0, -- which of its indexes has its vectors
    title      TEXT NOT NULL DEFAULT '', -- what people call it
    metadata   TEXT NOT NULL DEFAULT '{}', -- what they note of it: a JSON object of texts
    PRIMARY KEY (tenant, name)
);

-- The attributes that a collection's documents ever had.
CREATE TABLE fields (
    tenant     TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    kind       TEXT NOT NULL, -- boolean, number or text
    PRIMARY KEY (tenant, collection, name),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

CREATE TABLE documents (
    tenant     TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    source     TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    text       TEXT NOT NULL,
    characters BIGINT NOT NULL,
    passages   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL, -- milliseconds since 1970
    private    BOOLEAN NOT NULL,
    attributes TEXT NOT NULL, -- a JSON object of arrays
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, collection, source),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

CREATE TABLE passages (
    tenant     TEXT COLLATE "C" NOT NULL,
    document   TEXT COLLATE "C" NOT NULL,
    position   BIGINT NOT NULL,
    headings   TEXT NOT NULL, -- a JSON array, outermost first
    text       TEXT NOT NULL,
    start      BIGINT NOT NULL, -- in characters of the document's text
    start_line BIGINT NOT NULL,
    end_line   BIGINT NOT NULL,
    start_page BIGINT NOT NULL, -- of the file, from 1; zeros where it has none
    end_page   BIGINT NOT NULL,
    sha256     BYTEA, -- of what the vector is of
    vector     BYTEA, -- 32-bit floats, little-endian
    PRIMARY KEY (tenant, document, position),
    FOREIGN KEY (tenant, document) REFERENCES documents (tenant, id) ON DELETE CASCADE
);

-- A text that was embedded before is not embedded again.
CREATE INDEX passages_embedded ON passages (tenant, sha256) WHERE sha256 IS NOT NULL;

-- Vectors that were paid for and are of no stored passage yet: their document failed later, or waits.
CREATE TABLE vectors (
    tenant TEXT COLLATE "C" NOT NULL,
    sha256 BYTEA NOT NULL, -- of what the vector is of
    vector BYTEA NOT NULL, -- 32-bit floats, little-endian
    at     BIGINT NOT NULL, -- when it came, in milliseconds since 1970
    PRIMARY KEY (tenant, sha256)
);

CREATE INDEX vectors_at ON vectors (at);

-- What an index that outlives its retrievers has yet to hear of: a document that changed or was removed, or, without
-- one, a whole collection's index of a generation that has ended.
CREATE TABLE unindexed (
    tenant     TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    document   TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL, -- without a document; 0 otherwise
    PRIMARY KEY (tenant, collection, document, generation)
);

-- Documents that are stored and indexed, or get vectors of another model, while nobody waits.
CREATE TABLE jobs (
    tenant     TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL, -- milliseconds since 1970
    team       TEXT, -- who made it pays for its vectors
    "user"     TEXT NOT NULL,
    key        TEXT,
    model      TEXT, -- of a re-index, the identity of the model that the collection goes to, empty for none
    switched   BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

CREATE INDEX jobs_of ON jobs (tenant, collection);

CREATE TABLE tasks (
    tenant     TEXT COLLATE "C" NOT NULL,
    job        TEXT COLLATE "C" NOT NULL,
    source     TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL, -- empty: told from the source
    attributes TEXT NOT NULL, -- a JSON object of arrays
    private    BOOLEAN, -- NULL: as the document is, or public
    content    BYTEA, -- gone when it is done
    state      TEXT NOT NULL, -- queued, running, done or failed
    reason     TEXT NOT NULL,
    document   TEXT NOT NULL, -- its id, when it is done
    attempts   BIGINT NOT NULL,
    lease      TEXT NOT NULL, -- of whoever works on it
    due_at     BIGINT NOT NULL, -- queued: not before; running: the lease's end
    updated_at BIGINT NOT NULL,
    by_address BOOLEAN NOT NULL DEFAULT FALSE, -- it is fetched from its source: its content is empty until it is done
    PRIMARY KEY (tenant, job, source),
    FOREIGN KEY (tenant, job) REFERENCES jobs (tenant, id) ON DELETE CASCADE
);

CREATE INDEX tasks_due ON tasks (due_at) WHERE state IN ('queued', 'running');
CREATE INDEX tasks_failed ON tasks (updated_at) WHERE state = 'failed' AND content IS NOT NULL;
CREATE INDEX tasks_open ON tasks (tenant, job, source) WHERE state <> 'done';
CREATE INDEX tasks_leased ON tasks (lease) WHERE state = 'running';

-- How much of a tenant waits in jobs.
CREATE TABLE waiting (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tasks  BIGINT NOT NULL,
    bytes  BIGINT NOT NULL
);

CREATE FUNCTION count_waiting() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    whose TEXT;
    more_tasks BIGINT := 0;
    more_bytes BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        whose := OLD.tenant;
        IF OLD.content IS NOT NULL AND OLD.state <> 'failed' THEN
            more_tasks := more_tasks - 1;
            more_bytes := more_bytes - LENGTH(OLD.content);
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        whose := NEW.tenant;
        IF NEW.content IS NOT NULL AND NEW.state <> 'failed' THEN
            more_tasks := more_tasks + 1;
            more_bytes := more_bytes + LENGTH(NEW.content);
        END IF;
    END IF;
    -- Whoever takes a task changes neither, and waits for nobody.
    IF more_tasks <> 0 OR more_bytes <> 0 THEN
        INSERT INTO waiting VALUES (whose, more_tasks, more_bytes)
        ON CONFLICT (tenant) DO UPDATE SET tasks = waiting.tasks + excluded.tasks,
          bytes = waiting.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_waiting AFTER INSERT OR DELETE OR UPDATE OF content, state ON tasks
FOR EACH ROW EXECUTE FUNCTION count_waiting();
