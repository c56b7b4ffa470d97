//! Graphs as the reference server keeps them: an entity or a relation on each line.

use std::io::{BufRead, Write};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use types::TenantId;

use crate::graph::{Addition, Change, Changed, Entity, MAX_ITEMS, Query, Relation, Which};
use crate::{Error, Store};

/// How many entities are read at once.
const PAGE: usize = 100;

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Entity(Entity),
    Relation(Relation),
}

/// What an import has made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entities that were not there.
    pub entities: usize,
    /// Observations that were not there, also of entities that were.
    pub observations: usize,
    /// Relations that were not there.
    pub relations: usize,
    /// Relations that were left out, as one of their ends is nowhere.
    pub dangling: usize,
}

/// Adds what `lines` have to a tenant's graph; what is there already stays. An import that broke off
/// is done again.
///
/// # Errors
/// If a line cannot be read or has what cannot be stored, before anything is changed; or if the store
/// fails.
pub async fn import(
    store: &dyn Store,
    tenant: &TenantId,
    lines: impl BufRead,
) -> anyhow::Result<Imported> {
    let (mut entities, mut relations) = (Vec::new(), Vec::new());
    for (number, line) in lines.lines().enumerate() {
        let place = || format!("line {}", number + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(&line).with_context(place)? {
            Line::Entity(entity) => {
                let (bare, additions) = parts(entity);
                Change::CreateEntities(vec![bare.clone()]).check().with_context(place)?;
                for addition in &additions {
                    Change::AddObservations(vec![addition.clone()]).check().with_context(place)?;
                }
                entities.push((bare, additions));
            }
            Line::Relation(relation) => {
                Change::CreateRelations(vec![relation.clone()]).check().with_context(place)?;
                relations.push(relation);
            }
        }
    }
    let mut imported = Imported::default();
    for some in entities.chunks(MAX_ITEMS) {
        let bare = some.iter().map(|(bare, _)| bare.clone()).collect();
        imported.count(store.change(tenant, &Change::CreateEntities(bare)).await?);
    }
    for addition in entities.into_iter().flat_map(|(_, additions)| additions) {
        imported.count(store.change(tenant, &Change::AddObservations(vec![addition])).await?);
    }
    for relation in relations {
        match store.change(tenant, &Change::CreateRelations(vec![relation])).await {
            Ok(changed) => imported.count(changed),
            Err(Error::Missing(_)) => imported.dangling += 1,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(imported)
}

/// Writes a tenant's graph, entities before relations.
///
/// # Errors
/// If the store or the writer fails.
pub async fn export(
    store: &dyn Store,
    tenant: &TenantId,
    mut to: impl Write,
) -> anyhow::Result<()> {
    let (mut relations, mut cursor) = (Vec::new(), 0);
    loop {
        let query = Query { which: Which::All, limit: Some(PAGE), cursor };
        let page = store.read(tenant, &query).await?;
        for entity in page.entities {
            writeln!(to, "{}", serde_json::to_string(&Line::Entity(entity))?)?;
        }
        relations.extend(page.relations);
        match page.next_cursor {
            Some(next) => cursor = next.parse()?,
            None => break,
        }
    }
    for relation in relations {
        writeln!(to, "{}", serde_json::to_string(&Line::Relation(relation))?)?;
    }
    Ok(to.flush()?)
}

impl Imported {
    fn count(&mut self, changed: Changed) {
        match changed {
            Changed::Entities(new) => self.entities += new.len(),
            Changed::Relations(new) => self.relations += new.len(),
            Changed::Observations(new) => {
                self.observations +=
                    new.iter().map(|one| one.added_observations.len()).sum::<usize>();
            }
            Changed::Deleted { .. } => {}
        }
    }
}

/// Parts an entity into itself and what is observed of it, as much at once as one change takes.
fn parts(entity: Entity) -> (Entity, Vec<Addition>) {
    let addition =
        |some: &[String]| Addition { entity_name: entity.name.clone(), contents: some.to_vec() };
    let additions = entity.observations.chunks(MAX_ITEMS).map(addition).collect();
    (Entity { observations: Vec::new(), ..entity }, additions)
}
