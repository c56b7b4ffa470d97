-- What people call a collection, and what they note of it: a JSON object of texts.
ALTER TABLE collections ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE collections ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';

-- What is on its way into a collection.
CREATE INDEX jobs_of ON jobs (tenant, collection);
CREATE INDEX tasks_open ON tasks (tenant, job, source) WHERE state <> 'done';
