-- A collection goes to another model: its vectors are made anew while the old ones serve, and then all at once they are
-- its vectors, in an index of the next generation.
ALTER TABLE collections ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Of an ingest job NULL; of a re-index the identity of the model that the collection goes to, empty for none.
ALTER TABLE jobs ADD COLUMN model TEXT;
ALTER TABLE jobs ADD COLUMN switched INTEGER NOT NULL DEFAULT 0;

-- A whole collection's index is that of a generation.
CREATE TABLE unindexed_2 (
    tenant     TEXT NOT NULL,
    collection TEXT NOT NULL,
    document   TEXT NOT NULL,
    generation INTEGER NOT NULL, -- without a document; 0 otherwise
    PRIMARY KEY (tenant, collection, document, generation)
) WITHOUT ROWID;

INSERT INTO unindexed_2 SELECT tenant, collection, document, 0 FROM unindexed;

DROP TABLE unindexed;
ALTER TABLE unindexed_2 RENAME TO unindexed;
