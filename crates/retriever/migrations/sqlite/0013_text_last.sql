-- A document's text comes last in its row: SQLite reads whatever is behind it through all pages of a long one. A column
-- that is added later is behind it again. (PostgreSQL keeps long texts apart.)
ALTER TABLE documents ADD COLUMN content TEXT NOT NULL DEFAULT '';
-- Each text is there once, also until the end of the transaction.
UPDATE documents SET content = text, text = '';
ALTER TABLE documents DROP COLUMN text;
ALTER TABLE documents RENAME COLUMN content TO text;
