-- Who holds a lease is found by it.
CREATE INDEX tasks_leased ON tasks (lease) WHERE state = 'running';
