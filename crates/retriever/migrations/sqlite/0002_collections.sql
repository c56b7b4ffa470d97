-- Documents are in collections, have attributes, and may be private; passages have vectors.
CREATE TABLE collections (
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    model      TEXT NOT NULL, -- its identity; empty without one
    dimension  INTEGER NOT NULL,
    created_at INTEGER NOT NULL, -- milliseconds since 1970
    PRIMARY KEY (tenant, name)
);

INSERT INTO collections
SELECT tenant, 'default', '', 0, MIN(updated_at) FROM documents GROUP BY tenant;

-- The attributes that a collection's documents ever had.
CREATE TABLE fields (
    tenant     TEXT NOT NULL,
    collection TEXT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL, -- boolean, number or text
    PRIMARY KEY (tenant, collection, name),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE documents_2 (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    collection TEXT NOT NULL,
    source     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    text       TEXT NOT NULL,
    characters INTEGER NOT NULL,
    passages   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, -- milliseconds since 1970
    private    INTEGER NOT NULL,
    attributes TEXT NOT NULL, -- a JSON object of arrays
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, collection, source),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

INSERT INTO documents_2
SELECT tenant, id, 'default', source, media_type, sha256, text, characters, passages, updated_at, 0, '{}' FROM documents;

CREATE TABLE passages_2 (
    tenant     TEXT NOT NULL,
    document   TEXT NOT NULL,
    position   INTEGER NOT NULL,
    headings   TEXT NOT NULL, -- a JSON array, outermost first
    text       TEXT NOT NULL,
    start      INTEGER NOT NULL, -- in characters of the document's text
    start_line INTEGER NOT NULL,
    end_line   INTEGER NOT NULL,
    sha256     BLOB, -- of what the vector is of
    vector     BLOB, -- 32-bit floats, little-endian
    PRIMARY KEY (tenant, document, position),
    FOREIGN KEY (tenant, document) REFERENCES documents_2 (tenant, id) ON DELETE CASCADE
) WITHOUT ROWID;

INSERT INTO passages_2
SELECT tenant, document, position, headings, text, start, start_line, end_line, NULL, NULL FROM passages;

DROP TABLE passages;
DROP TABLE documents;
ALTER TABLE documents_2 RENAME TO documents;
ALTER TABLE passages_2 RENAME TO passages;

-- A text that was embedded before is not embedded again.
CREATE INDEX passages_embedded ON passages (tenant, sha256) WHERE sha256 IS NOT NULL;
