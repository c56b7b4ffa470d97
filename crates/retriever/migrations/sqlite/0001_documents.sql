-- A tenant's documents and the passages that they were cut into.
CREATE TABLE documents (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    source     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    text       TEXT NOT NULL,
    characters INTEGER NOT NULL,
    passages   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, -- milliseconds since 1970
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, source)
);

CREATE TABLE passages (
    tenant     TEXT NOT NULL,
    document   TEXT NOT NULL,
    position   INTEGER NOT NULL,
    headings   TEXT NOT NULL, -- a JSON array, outermost first
    text       TEXT NOT NULL,
    start      INTEGER NOT NULL, -- in characters of the document's text
    start_line INTEGER NOT NULL,
    end_line   INTEGER NOT NULL,
    PRIMARY KEY (tenant, document, position),
    FOREIGN KEY (tenant, document) REFERENCES documents (tenant, id) ON DELETE CASCADE
) WITHOUT ROWID;
