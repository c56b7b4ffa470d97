-- There may be many tasks.
SET LOCAL statement_timeout = 0;
-- Whoever froze with a lock is not waited for, with everybody behind.
SET LOCAL lock_timeout = '30s';

-- Into which collection something is on its way; NULL of a re-index, whose documents are there.
ALTER TABLE tasks ADD COLUMN collection TEXT COLLATE "C";

-- What is done is found by its job alone.
UPDATE tasks SET collection = j.collection FROM jobs j
WHERE j.tenant = tasks.tenant AND j.id = tasks.job AND j.model IS NULL AND tasks.state <> 'done';

CREATE INDEX tasks_by_source ON tasks (tenant, collection, source, job) WHERE state <> 'done';
