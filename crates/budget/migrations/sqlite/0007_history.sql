-- A tenant's history is found without going through everybody's.
CREATE INDEX history_of_tenant ON history (tenant, number);
