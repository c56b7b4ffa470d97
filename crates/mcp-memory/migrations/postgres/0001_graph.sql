-- What is deleted keeps its row for a while, and its name is free at once.
CREATE TABLE memory_entities (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  entity_type TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  deleted_at BIGINT
);

CREATE UNIQUE INDEX memory_entities_alive ON memory_entities (tenant, name) WHERE deleted_at IS NULL;
CREATE INDEX memory_entities_of_tenant ON memory_entities (tenant, id);

-- Contents are sealed where there is a key; the digest is then keyed too.
CREATE TABLE memory_observations (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant TEXT NOT NULL,
  entity_id BIGINT NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  digest BYTEA NOT NULL,
  content BYTEA NOT NULL,
  UNIQUE (entity_id, digest)
);

CREATE INDEX memory_observations_of_tenant ON memory_observations (tenant, entity_id, id);

CREATE TABLE memory_relations (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant TEXT NOT NULL,
  from_id BIGINT NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  to_id BIGINT NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  relation_type TEXT NOT NULL,
  UNIQUE (from_id, to_id, relation_type)
);

CREATE INDEX memory_relations_of_tenant ON memory_relations (tenant, id);
CREATE INDEX memory_relations_to ON memory_relations (to_id);

-- Whom a sweeper looks after.
CREATE TABLE memory_tenants (tenant TEXT NOT NULL PRIMARY KEY);

-- A transaction sees its own tenant's rows alone, and makes no others, whatever a statement asks for.
ALTER TABLE memory_entities ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_entities FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON memory_entities USING (tenant = current_setting('baton.tenant', true));
ALTER TABLE memory_observations ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_observations FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON memory_observations USING (tenant = current_setting('baton.tenant', true));
ALTER TABLE memory_relations ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_relations FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON memory_relations USING (tenant = current_setting('baton.tenant', true));
