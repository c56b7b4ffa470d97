-- What runs did. Rows are only ever added.
CREATE TABLE events (
    tenant   TEXT    NOT NULL,
    run      TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    event    BLOB    NOT NULL, -- a baton.orchestrator.v1.Event
    PRIMARY KEY (tenant, run, sequence)
) WITHOUT ROWID;
