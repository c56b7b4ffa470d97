-- Of a document that is fetched from the address which is its source: its content is empty until it is done.
ALTER TABLE tasks ADD COLUMN by_address INTEGER NOT NULL DEFAULT 0;
