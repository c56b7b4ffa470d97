-- What is deleted keeps its row for a while, and its name is free at once.
CREATE TABLE memory_entities (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  entity_type TEXT NOT NULL,
  made_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;

CREATE UNIQUE INDEX memory_entities_alive ON memory_entities (tenant, name) WHERE deleted_at IS NULL;
CREATE INDEX memory_entities_of_tenant ON memory_entities (tenant, id);

-- Contents are sealed where there is a key; the digest is then keyed too.
CREATE TABLE memory_observations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  entity_id INTEGER NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  digest BLOB NOT NULL,
  content BLOB NOT NULL,
  UNIQUE (entity_id, digest)
) STRICT;

CREATE INDEX memory_observations_of_tenant ON memory_observations (tenant, entity_id, id);

CREATE TABLE memory_relations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  from_id INTEGER NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  to_id INTEGER NOT NULL REFERENCES memory_entities (id) ON DELETE CASCADE,
  relation_type TEXT NOT NULL,
  UNIQUE (from_id, to_id, relation_type)
) STRICT;

CREATE INDEX memory_relations_of_tenant ON memory_relations (tenant, id);
CREATE INDEX memory_relations_to ON memory_relations (to_id);

-- Whom a sweeper looks after.
CREATE TABLE memory_tenants (tenant TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
