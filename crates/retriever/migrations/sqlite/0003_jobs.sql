-- Documents that are stored and indexed while nobody waits.
CREATE TABLE jobs (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    collection TEXT NOT NULL,
    created_at INTEGER NOT NULL, -- milliseconds since 1970
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

CREATE TABLE tasks (
    tenant       TEXT NOT NULL,
    job          TEXT NOT NULL,
    source       TEXT NOT NULL,
    media_type   TEXT NOT NULL, -- empty: told from the source
    attributes   TEXT NOT NULL, -- a JSON object of arrays
    private      INTEGER, -- NULL: as the document is, or public
    content      BLOB, -- gone when it is done
    state        TEXT NOT NULL, -- queued, running, done or failed
    reason       TEXT NOT NULL,
    document     TEXT NOT NULL, -- its id, when it is done
    attempts     INTEGER NOT NULL,
    lease        TEXT NOT NULL, -- of whoever works on it
    due_at       INTEGER NOT NULL, -- queued: not before; running: the lease's end
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, job, source),
    FOREIGN KEY (tenant, job) REFERENCES jobs (tenant, id) ON DELETE CASCADE
);

CREATE INDEX tasks_due ON tasks (due_at) WHERE state IN ('queued', 'running');
CREATE INDEX tasks_waiting ON tasks (tenant, LENGTH(content)) WHERE content IS NOT NULL;
