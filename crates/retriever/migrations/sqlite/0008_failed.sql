-- Bytes of what failed, by when that was: they are kept for a while.
CREATE INDEX tasks_failed ON tasks (updated_at) WHERE state = 'failed' AND content IS NOT NULL;
