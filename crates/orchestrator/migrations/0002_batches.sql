-- Files of tenants, uploaded or made by a batch. Nobody sees one that is not whole.
CREATE TABLE files (
    id         TEXT    PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    filename   TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    privacy    TEXT    NOT NULL, -- of the call that uploaded it: public, private
    bytes      INTEGER NOT NULL,
    whole      INTEGER NOT NULL, -- 0, 1
    created_at INTEGER NOT NULL, -- in milliseconds since 1970, as every time here
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX files_of_a_tenant ON files (tenant, id);
CREATE INDEX files_by_end ON files (expires_at);

CREATE TABLE chunks (
    file     TEXT    NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    position INTEGER NOT NULL, -- 0, 1, 2, …
    bytes    BLOB    NOT NULL,
    UNIQUE (file, position)
);

CREATE TABLE batches (
    id             TEXT    PRIMARY KEY,
    tenant         TEXT    NOT NULL, -- its creator's context, as far as the user
    team           TEXT,
    user           TEXT    NOT NULL,
    key            TEXT,
    privacy        TEXT    NOT NULL,
    endpoint       TEXT    NOT NULL,
    input_file     TEXT    NOT NULL,
    window         TEXT    NOT NULL,
    metadata       TEXT    NOT NULL, -- a JSON object of texts
    max_cost       INTEGER,          -- in nano-USD, as all money here
    status         TEXT    NOT NULL,
    expired        INTEGER NOT NULL DEFAULT 0, -- 1 when its time was over before its requests had begun
    faults         TEXT    NOT NULL DEFAULT '[]', -- JSON
    output_file    TEXT,
    error_file     TEXT,
    total          INTEGER NOT NULL DEFAULT 0, -- counted by the triggers below, as the next three
    completed      INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    cost           INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    in_progress_at INTEGER,
    finalizing_at  INTEGER,
    cancelling_at  INTEGER,
    ended_at       INTEGER,
    lease          TEXT,             -- who works on it: every write of theirs asks for it
    lease_until    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX batches_of_a_tenant ON batches (tenant, id);
CREATE INDEX batches_by_status ON batches (status, id);

-- What a batch asks, a line each, until its files are written. Numbers first: a scan reads no bodies.
CREATE TABLE requests (
    id         INTEGER PRIMARY KEY,
    batch      TEXT    NOT NULL REFERENCES batches (id),
    line       INTEGER NOT NULL, -- of the input file, from 1
    state      TEXT    NOT NULL DEFAULT 'pending', -- then running, then completed or failed
    not_before INTEGER NOT NULL DEFAULT 0, -- when it may be asked again
    attempts   INTEGER NOT NULL DEFAULT 0,
    worst      INTEGER NOT NULL DEFAULT 0, -- the most that it can cost, while it is running
    lost       INTEGER NOT NULL DEFAULT 0, -- the most that attempts can have cost whose end nobody saw
    cost       INTEGER NOT NULL DEFAULT 0,
    http       INTEGER, -- the answer's status, when it was asked
    custom_id  TEXT    NOT NULL,
    request_id TEXT,
    body       BLOB    NOT NULL,
    answer     BLOB     -- a body; without `http` why it was never asked, {"code": …, "message": …}
);

CREATE INDEX requests_by_state ON requests (batch, state, not_before, line);
CREATE INDEX requests_by_line ON requests (batch, line);

CREATE TRIGGER a_request_is_counted AFTER INSERT ON requests BEGIN
    UPDATE batches SET total = total + 1 WHERE id = NEW.batch;
END;

CREATE TRIGGER an_end_is_counted AFTER UPDATE OF state ON requests
WHEN NEW.state IN ('completed', 'failed') AND OLD.state NOT IN ('completed', 'failed') BEGIN
    UPDATE batches SET
        completed = completed + (NEW.state = 'completed'),
        failed = failed + (NEW.state = 'failed'),
        cost = cost + NEW.cost
    WHERE id = NEW.batch;
END;
