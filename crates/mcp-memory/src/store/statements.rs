//! What is said to a database; the same to each, of which `Db` is one.

use std::collections::{BTreeMap, HashSet};

use sqlx::{Pool, Transaction};

use super::Db;
use crate::Error;
use crate::graph::{
    Added, Addition, Change, Changed, Deletion, Entity, Page, Query, Relation, Which,
};
use crate::store::Rules;

/// How many rows are read at once.
const BATCH: i64 = 200;

type Tx = Transaction<'static, Db>;

/// Returns who has a graph.
pub(super) async fn tenants(pool: &Pool<Db>) -> Result<Vec<String>, Error> {
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT tenant FROM memory_tenants ORDER BY tenant").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(tenant,)| tenant).collect())
}

pub(super) async fn change(
    tx: &mut Tx,
    rules: &Rules,
    tenant: &str,
    change: &Change,
) -> Result<Changed, Error> {
    let mut graph = Graph { tx, rules, tenant };
    graph.execute_for_tenant().await?;
    match change {
        Change::CreateEntities(all) => graph.create_entities(all).await,
        Change::CreateRelations(all) => graph.create_relations(all).await,
        Change::AddObservations(all) => graph.add_observations(all).await,
        Change::DeleteEntities(all) => graph.delete_entities(all).await,
        Change::RestoreEntities(all) => graph.restore_entities(all).await,
        Change::DeleteObservations(all) => graph.delete_observations(all).await,
        Change::DeleteRelations(all) => graph.delete_relations(all).await,
    }
}

pub(super) async fn sweep(tx: &mut Tx, rules: &Rules, tenant: &str) -> Result<u64, Error> {
    let kinds: Vec<(String,)> = sqlx::query_as(
        "SELECT DISTINCT entity_type FROM memory_entities WHERE tenant = $1 AND deleted_at IS NULL",
    )
    .bind(tenant)
    .fetch_all(&mut **tx)
    .await?;
    let mut count = 0;
    for (kind,) in kinds {
        let Some(since) = rules.kept_since(&kind) else { continue };
        let deleted = sqlx::query(
            "UPDATE memory_entities SET deleted_at = $4
             WHERE tenant = $1 AND entity_type = $2 AND changed_at < $3 AND deleted_at IS NULL",
        )
        .bind(tenant)
        .bind(kind)
        .bind(since)
        .bind(rules.now())
        .execute(&mut **tx)
        .await?;
        count += deleted.rows_affected();
    }
    let gone = sqlx::query("DELETE FROM memory_entities WHERE tenant = $1 AND deleted_at < $2")
        .bind(tenant)
        .bind(rules.deleted_since())
        .execute(&mut **tx)
        .await?;
    Ok(count + gone.rows_affected())
}

pub(super) async fn reseal(tx: &mut Tx, rules: &Rules, tenant: &str) -> Result<u64, Error> {
    let (mut after, mut count) = (0, 0);
    loop {
        let rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT id, entity_id, content FROM memory_observations
             WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(tenant)
        .bind(after)
        .bind(BATCH)
        .fetch_all(&mut **tx)
        .await?;
        let Some((last, ..)) = rows.last() else { return Ok(count) };
        after = *last;
        for (id, entity, stored) in rows {
            if rules.keys.is_current(&stored) {
                continue;
            }
            let content = rules.keys.open(tenant, entity, &stored)?;
            sqlx::query("UPDATE memory_observations SET content = $2, digest = $3 WHERE id = $1")
                .bind(id)
                .bind(rules.keys.seal(tenant, entity, &content)?)
                .bind(rules.keys.digest(&content))
                .execute(&mut **tx)
                .await?;
            count += 1;
        }
    }
}

pub(super) async fn read(
    tx: &mut Tx,
    rules: &Rules,
    tenant: &str,
    query: &Query,
) -> Result<Page, Error> {
    Graph { tx, rules, tenant }.read(query).await
}

/// One tenant's graph, in one transaction.
struct Graph<'a> {
    tx: &'a mut Tx,
    rules: &'a Rules,
    tenant: &'a str,
}

impl Graph<'_> {
    async fn execute_for_tenant(&mut self) -> Result<(), Error> {
        sqlx::query("INSERT INTO memory_tenants (tenant) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(self.tenant)
            .execute(&mut **self.tx)
            .await?;
        Ok(())
    }

    async fn create_entities(&mut self, all: &[Entity]) -> Result<Changed, Error> {
        let mut new = Vec::new();
        for entity in all {
            let made: Option<(i64,)> = sqlx::query_as(
                "INSERT INTO memory_entities (tenant, name, entity_type, made_at, changed_at)
                 VALUES ($1, $2, $3, $4, $4)
                 ON CONFLICT (tenant, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            )
            .bind(self.tenant)
            .bind(&entity.name)
            .bind(&entity.entity_type)
            .bind(self.rules.now())
            .fetch_optional(&mut **self.tx)
            .await?;
            if let Some((id,)) = made {
                let observations = self.observe(id, &entity.observations).await?;
                new.push(Entity { observations, ..entity.clone() });
            }
        }
        Ok(Changed::Entities(new))
    }

    async fn create_relations(&mut self, all: &[Relation]) -> Result<Changed, Error> {
        let mut new = Vec::new();
        for relation in all {
            let from = self.wanted(&relation.from).await?;
            let to = self.wanted(&relation.to).await?;
            let made = sqlx::query(
                "INSERT INTO memory_relations (tenant, from_id, to_id, relation_type)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(self.tenant)
            .bind(from)
            .bind(to)
            .bind(&relation.relation_type)
            .execute(&mut **self.tx)
            .await?;
            if made.rows_affected() == 1 {
                self.touch(from).await?;
                self.touch(to).await?;
                new.push(relation.clone());
            }
        }
        Ok(Changed::Relations(new))
    }

    async fn add_observations(&mut self, all: &[Addition]) -> Result<Changed, Error> {
        let mut new = Vec::new();
        for addition in all {
            let id = self.wanted(&addition.entity_name).await?;
            let added = self.observe(id, &addition.contents).await?;
            if !added.is_empty() {
                self.touch(id).await?;
            }
            let entity_name = addition.entity_name.clone();
            new.push(Added { entity_name, added_observations: added });
        }
        Ok(Changed::Observations(new))
    }

    async fn delete_entities(&mut self, names: &[String]) -> Result<Changed, Error> {
        let (mut count, mut missing) = (0, Vec::new());
        for name in names {
            let deleted = sqlx::query(
                "UPDATE memory_entities SET deleted_at = $3
                 WHERE tenant = $1 AND name = $2 AND deleted_at IS NULL",
            )
            .bind(self.tenant)
            .bind(name)
            .bind(self.rules.now())
            .execute(&mut **self.tx)
            .await?;
            match deleted.rows_affected() {
                0 => missing.push(format!("entity '{name}'")),
                _ => count += 1,
            }
        }
        Ok(Changed::Deleted { count, missing })
    }

    async fn restore_entities(&mut self, names: &[String]) -> Result<Changed, Error> {
        let mut back = Vec::new();
        for name in names {
            if self.id(name).await?.is_some() {
                continue;
            }
            let found: Option<(i64, String)> = sqlx::query_as(
                "SELECT id, entity_type FROM memory_entities
                 WHERE tenant = $1 AND name = $2 AND deleted_at >= $3
                 ORDER BY deleted_at DESC, id DESC LIMIT 1",
            )
            .bind(self.tenant)
            .bind(name)
            .bind(self.rules.deleted_since())
            .fetch_optional(&mut **self.tx)
            .await?;
            let (id, entity_type) = found.ok_or_else(|| Error::Missing(name.clone()))?;
            sqlx::query("UPDATE memory_entities SET deleted_at = NULL WHERE id = $1")
                .bind(id)
                .execute(&mut **self.tx)
                .await?;
            self.touch(id).await?;
            let observations = self.observations(id, id).await?.remove(&id).unwrap_or_default();
            back.push(Entity { name: name.clone(), entity_type, observations });
        }
        Ok(Changed::Entities(back))
    }

    async fn delete_observations(&mut self, all: &[Deletion]) -> Result<Changed, Error> {
        let (mut count, mut missing) = (0, Vec::new());
        for deletion in all {
            let name = &deletion.entity_name;
            let Some(id) = self.id(name).await? else {
                missing.push(format!("entity '{name}'"));
                continue;
            };
            for content in &deletion.observations {
                let deleted = sqlx::query(
                    "DELETE FROM memory_observations WHERE entity_id = $1 AND digest = $2",
                )
                .bind(id)
                .bind(self.rules.keys.digest(content))
                .execute(&mut **self.tx)
                .await?;
                match deleted.rows_affected() {
                    0 => missing.push(format!("an observation of '{name}'")),
                    _ => count += 1,
                }
            }
            self.touch(id).await?;
        }
        Ok(Changed::Deleted { count, missing })
    }

    async fn delete_relations(&mut self, all: &[Relation]) -> Result<Changed, Error> {
        let (mut count, mut missing) = (0, Vec::new());
        for relation in all {
            let (from, to) = (self.id(&relation.from).await?, self.id(&relation.to).await?);
            let deleted = sqlx::query(
                "DELETE FROM memory_relations
                 WHERE from_id = $1 AND to_id = $2 AND relation_type = $3",
            )
            .bind(from)
            .bind(to)
            .bind(&relation.relation_type)
            .execute(&mut **self.tx)
            .await?;
            match deleted.rows_affected() {
                0 => missing.push(format!(
                    "relation '{}' {} '{}'",
                    relation.from, relation.relation_type, relation.to
                )),
                _ => count += 1,
            }
        }
        Ok(Changed::Deleted { count, missing })
    }

    /// Adds the contents that an entity has not, and returns them.
    async fn observe(&mut self, id: i64, contents: &[String]) -> Result<Vec<String>, Error> {
        let mut new = Vec::new();
        for content in contents {
            let added = sqlx::query(
                "INSERT INTO memory_observations (tenant, entity_id, digest, content)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(self.tenant)
            .bind(id)
            .bind(self.rules.keys.digest(content))
            .bind(self.rules.keys.seal(self.tenant, id, content)?)
            .execute(&mut **self.tx)
            .await?;
            if added.rows_affected() == 1 {
                new.push(content.clone());
            }
        }
        Ok(new)
    }

    async fn id(&mut self, name: &str) -> Result<Option<i64>, Error> {
        let found: Option<(i64,)> = sqlx::query_as(
            "SELECT id FROM memory_entities WHERE tenant = $1 AND name = $2 AND deleted_at IS NULL",
        )
        .bind(self.tenant)
        .bind(name)
        .fetch_optional(&mut **self.tx)
        .await?;
        Ok(found.map(|(id,)| id))
    }

    async fn wanted(&mut self, name: &str) -> Result<i64, Error> {
        self.id(name).await?.ok_or_else(|| Error::Missing(name.to_owned()))
    }

    async fn touch(&mut self, id: i64) -> Result<(), Error> {
        sqlx::query("UPDATE memory_entities SET changed_at = $2 WHERE id = $1")
            .bind(id)
            .bind(self.rules.now())
            .execute(&mut **self.tx)
            .await?;
        Ok(())
    }

    async fn read(&mut self, query: &Query) -> Result<Page, Error> {
        let most = query.limit.unwrap_or(self.rules.max_items);
        let (mut found, mut bytes, mut after) = (Vec::new(), 0, query.cursor);
        let mut is_cut = false;
        'batches: loop {
            let batch = self.batch(&query.which, after).await?;
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { break };
            // Between entities that are named lie others, which are not meant.
            let is_named = matches!(query.which, Which::Named(_));
            let mut observations = match is_named {
                true => BTreeMap::new(),
                false => self.observations(first.0, last.0).await?,
            };
            after = last.0;
            for (id, name, entity_type) in batch {
                if is_named {
                    observations = self.observations(id, id).await?;
                }
                let observations = observations.remove(&id).unwrap_or_default();
                let entity = Entity { name, entity_type, observations };
                if !matches(&query.which, &entity) {
                    continue;
                }
                let size = entity.observations.iter().map(String::len).sum::<usize>();
                bytes += size + entity.name.len() + entity.entity_type.len();
                let is_too_long = bytes > self.rules.max_bytes && !found.is_empty();
                if found.len() == most || is_too_long {
                    is_cut = true;
                    if query.limit.is_none() {
                        return Err(too_much(self.rules, is_too_long));
                    }
                    break 'batches;
                }
                found.push((id, entity));
            }
        }
        let next_cursor = found.last().filter(|_| is_cut).map(|(id, _)| id.to_string());
        let ids: HashSet<i64> = found.iter().map(|(id, _)| *id).collect();
        // Of a graph that is read in pages each relation comes once: with its start.
        let by_start = query.which == Which::All;
        let relations = self.relations(&ids, by_start).await?;
        let entities = found.into_iter().map(|(_, entity)| entity).collect();
        Ok(Page { entities, relations, next_cursor })
    }

    /// Returns the next entities that may be meant, in the order of their ids.
    async fn batch(
        &mut self,
        which: &Which,
        after: i64,
    ) -> Result<Vec<(i64, String, String)>, Error> {
        let Which::Named(names) = which else {
            return Ok(sqlx::query_as(
                "SELECT id, name, entity_type FROM memory_entities
                 WHERE tenant = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3",
            )
            .bind(self.tenant)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut **self.tx)
            .await?);
        };
        let mut found = BTreeMap::new();
        for name in names {
            let row: Option<(i64, String, String)> = sqlx::query_as(
                "SELECT id, name, entity_type FROM memory_entities
                 WHERE tenant = $1 AND name = $2 AND id > $3 AND deleted_at IS NULL",
            )
            .bind(self.tenant)
            .bind(name)
            .bind(after)
            .fetch_optional(&mut **self.tx)
            .await?;
            found.extend(row.map(|row| (row.0, row)));
        }
        Ok(found.into_values().collect())
    }

    /// Returns what is observed of the entities from `first` to `last`.
    async fn observations(
        &mut self,
        first: i64,
        last: i64,
    ) -> Result<BTreeMap<i64, Vec<String>>, Error> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT entity_id, content FROM memory_observations
             WHERE tenant = $1 AND entity_id >= $2 AND entity_id <= $3 ORDER BY entity_id, id",
        )
        .bind(self.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut **self.tx)
        .await?;
        let mut all: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (entity, stored) in rows {
            let content = self.rules.keys.open(self.tenant, entity, &stored)?;
            all.entry(entity).or_default().push(content);
        }
        Ok(all)
    }

    async fn relations(
        &mut self,
        ids: &HashSet<i64>,
        by_start: bool,
    ) -> Result<Vec<Relation>, Error> {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let rows: Vec<(i64, i64, i64, String, String, String)> = sqlx::query_as(
                "SELECT r.id, r.from_id, r.to_id, f.name, t.name, r.relation_type
                 FROM memory_relations AS r
                 JOIN memory_entities AS f ON f.id = r.from_id
                 JOIN memory_entities AS t ON t.id = r.to_id
                 WHERE r.tenant = $1 AND r.id > $2
                   AND f.deleted_at IS NULL AND t.deleted_at IS NULL
                 ORDER BY r.id LIMIT $3",
            )
            .bind(self.tenant)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut **self.tx)
            .await?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = last.0;
            for (_, from_id, to_id, from, to, relation_type) in rows {
                if !(ids.contains(&from_id) || (!by_start && ids.contains(&to_id))) {
                    continue;
                }
                if found.len() == self.rules.max_items {
                    let limit = self.rules.max_items;
                    return Err(Error::TooMuch { limit, what: "relations" });
                }
                found.push(Relation { from, to, relation_type });
            }
        }
    }
}

fn matches(which: &Which, entity: &Entity) -> bool {
    let Which::Matching(text) = which else { return true };
    let text = text.to_lowercase();
    let has = |place: &String| place.to_lowercase().contains(&text);
    has(&entity.name) || has(&entity.entity_type) || entity.observations.iter().any(has)
}

fn too_much(rules: &Rules, is_too_long: bool) -> Error {
    match is_too_long {
        true => Error::TooMuch { limit: rules.max_bytes, what: "bytes" },
        false => Error::TooMuch { limit: rules.max_items, what: "entities" },
    }
}
