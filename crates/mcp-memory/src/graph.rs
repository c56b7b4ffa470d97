//! Entities, what is observed of them, and how they relate; and how much of it one call may have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How many things one call may name.
pub(crate) const MAX_ITEMS: usize = 100;

/// How many characters a name or type may have.
const MAX_NAME: usize = 256;

/// How many bytes an observation may have.
const MAX_CONTENT: usize = 16 * 1024;

/// Something that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct Entity {
    /// The name of the entity
    pub name: String,
    /// The type of the entity
    pub entity_type: String,
    /// An array of observation contents associated with the entity
    pub observations: Vec<String>,
}

/// How one entity stands to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct Relation {
    /// The name of the entity where the relation starts
    pub from: String,
    /// The name of the entity where the relation ends
    pub to: String,
    /// The type of the relation
    pub relation_type: String,
}

/// What is to be observed of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct Addition {
    /// The name of the entity to add the observations to
    pub entity_name: String,
    /// An array of observation contents to add
    pub contents: Vec<String>,
}

/// What was new of an addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Added {
    /// The name of the entity
    pub entity_name: String,
    /// The observations that were not there before
    pub added_observations: Vec<String>,
}

/// What is no longer to be observed of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct Deletion {
    /// The name of the entity containing the observations
    pub entity_name: String,
    /// An array of observations to delete
    pub observations: Vec<String>,
}

/// What one call changes: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes those that are not there.
    CreateEntities(Vec<Entity>),
    /// Makes those that are not there; both ends have to be.
    CreateRelations(Vec<Relation>),
    /// Adds those that are not there; the entities have to be.
    AddObservations(Vec<Addition>),
    /// Deletes entities with all that is observed of them and their relations.
    DeleteEntities(Vec<String>),
    /// Brings back what was deleted last by these names.
    RestoreEntities(Vec<String>),
    /// Deletes observations.
    DeleteObservations(Vec<Deletion>),
    /// Deletes relations.
    DeleteRelations(Vec<Relation>),
}

/// What a change has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The entities that are new, or back.
    Entities(Vec<Entity>),
    /// The relations that are new.
    Relations(Vec<Relation>),
    /// The observations that are new, for each addition.
    Observations(Vec<Added>),
    /// What was to be deleted and was not there, in words.
    Deleted {
        /// How much was.
        count: usize,
        /// What was not.
        missing: Vec<String>,
    },
}

/// Which part of a graph is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of it.
    All,
    /// Entities by their names.
    Named(Vec<String>),
    /// Entities with this text in a name, type or observation, whatever its case.
    Matching(String),
}

/// What is read: a part, or a page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which entities.
    pub which: Which,
    /// How many of them at most; all, or a fault, when absent.
    pub limit: Option<usize>,
    /// Behind which.
    pub cursor: i64,
}

/// A part of a graph: entities, and the relations of theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// In the order in which they were made.
    pub entities: Vec<Entity>,
    /// Those with an end among the entities; for pages of the whole graph, with their start.
    pub relations: Vec<Relation>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl Change {
    /// Refuses what is too much or cannot be stored, by a JSON pointer into the arguments.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Self::CreateEntities(all) => each("entities", all, |at, one| {
                name(&format!("{at}/name"), &one.name)?;
                name(&format!("{at}/entityType"), &one.entity_type)?;
                contents(&format!("{at}/observations"), &one.observations)
            }),
            Self::CreateRelations(all) | Self::DeleteRelations(all) => {
                each("relations", all, |at, one| {
                    name(&format!("{at}/from"), &one.from)?;
                    name(&format!("{at}/to"), &one.to)?;
                    name(&format!("{at}/relationType"), &one.relation_type)
                })
            }
            Self::AddObservations(all) => each("observations", all, |at, one| {
                name(&format!("{at}/entityName"), &one.entity_name)?;
                contents(&format!("{at}/contents"), &one.contents)
            }),
            Self::DeleteEntities(all) => each("entityNames", all, |at, one| name(at, one)),
            Self::RestoreEntities(all) => each("names", all, |at, one| name(at, one)),
            Self::DeleteObservations(all) => each("deletions", all, |at, one| {
                name(&format!("{at}/entityName"), &one.entity_name)?;
                contents(&format!("{at}/observations"), &one.observations)
            }),
        }
    }
}

impl Query {
    /// Refuses what is too much or finds nothing, by a JSON pointer into the arguments.
    pub(crate) fn check(&self, most: usize) -> Result<(), Error> {
        if let Some(limit) = self.limit
            && !(1..=most).contains(&limit)
        {
            return Err(Error::Invalid(format!("/limit: {limit} is not 1 to {most}")));
        }
        match &self.which {
            Which::All => Ok(()),
            Which::Named(names) => each("names", names, |at, one| name(at, one)),
            Which::Matching(text) if text.len() > MAX_CONTENT => {
                Err(Error::Invalid(format!("/query: more than {MAX_CONTENT} bytes")))
            }
            Which::Matching(_) => Ok(()),
        }
    }
}

fn each<T>(
    what: &str,
    all: &[T],
    check: impl Fn(&str, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    if all.len() > MAX_ITEMS {
        let count = all.len();
        return Err(Error::Invalid(format!("/{what}: {count} are more than {MAX_ITEMS}")));
    }
    all.iter().enumerate().try_for_each(|(index, one)| check(&format!("/{what}/{index}"), one))
}

fn name(at: &str, text: &str) -> Result<(), Error> {
    let count = text.chars().count();
    if !(1..=MAX_NAME).contains(&count) || text.trim().is_empty() {
        return Err(Error::Invalid(format!("{at}: a name has 1 to {MAX_NAME} characters")));
    }
    match text.chars().any(char::is_control) {
        true => Err(Error::Invalid(format!("{at}: a name has no control characters"))),
        false => Ok(()),
    }
}

fn contents(at: &str, all: &[String]) -> Result<(), Error> {
    if all.len() > MAX_ITEMS {
        let count = all.len();
        return Err(Error::Invalid(format!("{at}: {count} are more than {MAX_ITEMS}")));
    }
    for (index, one) in all.iter().enumerate() {
        if !(1..=MAX_CONTENT).contains(&one.len()) || one.contains('\0') {
            return Err(Error::Invalid(format!(
                "{at}/{index}: an observation has 1 to {MAX_CONTENT} bytes without NUL"
            )));
        }
    }
    Ok(())
}
