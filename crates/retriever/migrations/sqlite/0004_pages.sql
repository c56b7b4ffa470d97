-- Pages of the file, from 1, first and last; zeros where it has none.
ALTER TABLE passages ADD COLUMN start_page INTEGER NOT NULL DEFAULT 0;
ALTER TABLE passages ADD COLUMN end_page INTEGER NOT NULL DEFAULT 0;
