-- What an index that outlives this process has yet to hear of: a document that changed or was removed, or, without one,
-- a whole collection that was removed.
CREATE TABLE unindexed (
    tenant     TEXT NOT NULL,
    collection TEXT NOT NULL,
    document   TEXT NOT NULL,
    PRIMARY KEY (tenant, collection, document)
) WITHOUT ROWID;
