-- Into which collection something is on its way; NULL of a re-index, whose documents are there.
ALTER TABLE tasks ADD COLUMN collection TEXT;

-- What is done is found by its job alone.
UPDATE tasks SET collection =
(SELECT collection FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job AND j.model IS NULL)
WHERE state <> 'done';

CREATE INDEX tasks_by_source ON tasks (tenant, collection, source, job) WHERE state <> 'done';
