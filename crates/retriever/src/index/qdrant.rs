//! Indexes in Qdrant: a collection of its own for each of ours, so that no filter stands between tenants, and
//! the statistics of words are each collection's own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::vectors_config::Config as VectorsKind;
use qdrant_client::qdrant::{
    Condition, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeletePointsBuilder,
    Distance, FacetCountsBuilder, FieldType, Filter as Conditions, Modifier, NamedVectors, PointId,
    PointStruct, Query as Asked, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder, Range,
    ScoredPoint, SparseVectorParamsBuilder, SparseVectorsConfigBuilder, UpsertPointsBuilder,
    Vector, VectorInput, VectorParamsBuilder, VectorsConfigBuilder,
};
use qdrant_client::{Payload, Qdrant as Client, QdrantError};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tonic::Code;

use super::embedded::ReadDocument;
use super::{AROUND, Entries, Entry, FACET_VALUES, Found, Index, Indexes, LEADING, Query, Scope};
use crate::Error;
use crate::attributes::Value;
use crate::filter::{End, Filter};
use crate::fuse::Candidate;
use crate::hash::hex;

const DENSE: &str = "dense";
const WORDS: &str = "words";
/// So many of the best passages of each side are ranked together: each goes over the network.
const DEPTH: u64 = 300;
/// What a passage's length is compared with; its true mean changes with every document.
const MEAN_LENGTH: f32 = 130.0;
/// So many passages are sent at once.
const BATCH: usize = 256;

/// A server, or a cluster of them.
pub(crate) struct Qdrant {
    client: Client,
    open: RwLock<HashMap<Scope, Arc<Collection>>>,
}

/// One collection.
struct Collection {
    client: Client,
    name: String,
    /// What is known to be there; none until it is looked at.
    made: tokio::sync::Mutex<Option<Made>>,
}

/// What a collection has.
#[derive(Debug, Clone, Default)]
struct Made {
    /// How many numbers a vector has; none without vectors.
    dimension: Option<u64>,
    /// Keys of payload that are indexed.
    keys: HashSet<String>,
}

impl std::fmt::Debug for Qdrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Qdrant")
    }
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Collection").field(&self.name).finish()
    }
}

impl Qdrant {
    /// Makes a client; it connects when it is needed.
    ///
    /// # Errors
    /// If the address is none.
    pub(crate) fn new(url: &str, api_key: Option<&str>) -> anyhow::Result<Self> {
        let mut config = Client::from_url(url)
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(2))
            .skip_compatibility_check();
        if let Some(key) = api_key {
            config = config.api_key(key);
        }
        Ok(Self { client: config.build()?, open: RwLock::default() })
    }
}

#[async_trait]
impl Indexes for Qdrant {
    async fn open(&self, scope: &Scope) -> Result<Arc<dyn Index>, Error> {
        if let Some(index) = self.open.read().unwrap_or_else(PoisonError::into_inner).get(scope) {
            return Ok(index.clone());
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let index = open.entry(scope.clone()).or_insert_with(|| {
            let (client, name) = (self.client.clone(), name(scope));
            Arc::new(Collection { client, name, made: tokio::sync::Mutex::default() })
        });
        Ok(index.clone())
    }

    async fn remove(&self, scope: &Scope) -> Result<(), Error> {
        let name = name(scope);
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(scope);
        if self.client.collection_exists(&name).await.map_err(away)? {
            self.client.delete_collection(&name).await.map_err(away)?;
        }
        Ok(())
    }

    fn outlives(&self) -> bool {
        true
    }
}

#[async_trait]
impl Index for Collection {
    async fn replace(&self, document: &str, entries: Entries) -> Result<(), Error> {
        let Entries { passages, fields } = &entries;
        let count = passages.len();
        let first =
            passages.first().and_then(|entry| entry.vector.as_ref()).map(|one| one.len() as u64);
        let payload = payload(document, fields);
        if count > 0 {
            self.make(first, &payload).await?;
        } else if self.made().await?.is_none() {
            return Ok(());
        }
        let named = document.to_owned();
        let points = move || points(&named, &ReadDocument::new(entries), &payload);
        let points = spawn_blocking(points).await.map_err(|fault| Error::Broken(fault.into()))?;
        for some in points.chunks(BATCH) {
            let upsert = UpsertPointsBuilder::new(&self.name, some.to_vec()).wait(true);
            self.heard(self.client.upsert_points(upsert).await).await?;
        }
        // What the document had behind its new end.
        let behind = Range { gte: Some(count as f64), ..Range::default() };
        self.delete(Conditions::must([
            Condition::matches("document", document.to_owned()),
            Condition::range("position", behind),
        ]))
        .await
    }

    async fn remove(&self, document: &str) -> Result<(), Error> {
        match self.made().await? {
            Some(_) => {
                let own = Condition::matches("document", document.to_owned());
                self.delete(Conditions::must([own])).await
            }
            None => Ok(()),
        }
    }

    async fn search(&self, query: Query) -> Result<Found, Error> {
        match self.find(&query).await {
            // Another process may have made the collection anew; now it is looked at.
            Err(fault) if is_of_another(&fault) => self.find(&query).await,
            found => found,
        }
    }

    async fn len(&self) -> Result<u64, Error> {
        match self.made().await? {
            Some(_) => {
                let count = qdrant_client::qdrant::CountPointsBuilder::new(&self.name).exact(true);
                let reply = self.heard(self.client.count(count).await).await?;
                Ok(reply.result.map_or(0, |counted| counted.count))
            }
            None => Ok(0),
        }
    }
}

impl Collection {
    async fn find(&self, query: &Query) -> Result<Found, Error> {
        let nothing = || Found { facets: vec![Vec::new(); query.facets.len()], ..Found::default() };
        let size = query.vector.as_ref().map(|vector| vector.len() as u64);
        let mut made = self.made().await?;
        if size.is_some() && made.as_ref().is_some_and(|made| made.dimension != size) {
            // Another process may have made it anew, for another model.
            self.forget().await;
            made = self.made().await?;
        }
        let Some(made) = made else { return Ok(nothing()) };
        let filter = query.filter.as_ref().map(conditions);
        let facets = self.facets(&made, &query.facets, filter.as_ref()).await?;
        let sides = self.sides(&made, query);
        let asked = sides.iter().map(|(side, asked)| {
            QueryPointsBuilder::new(&self.name)
                .query(asked.clone())
                .using(*side)
                .limit(DEPTH)
                .with_payload(true)
        });
        let asked = asked.map(|one| match filter.clone() {
            Some(filter) => one.filter(filter).build(),
            None => one.build(),
        });
        let first = self.query(asked.collect()).await?;
        let mut known: HashMap<String, Scored> = HashMap::new();
        for ((side, _), points) in sides.iter().zip(&first) {
            for point in points {
                Scored::of(&mut known, point).score(side, point.score);
            }
        }
        // What one side found is scored by the other as well, and so are the passages around the best.
        let around: Vec<String> = match sides.iter().position(|(side, _)| *side == WORDS) {
            Some(at) => first[at].iter().take(LEADING).flat_map(around).collect(),
            None => Vec::new(),
        };
        let around: Vec<PointId> = around.iter().map(|id| point_id(id)).collect();
        let of = |ids: Vec<PointId>| {
            QueryPointsBuilder::new(&self.name)
                .limit(ids.len().max(1) as u64)
                .filter(Conditions::must([Condition::has_id(ids)]))
                .with_payload(true)
        };
        let others = sides.iter().map(|(side, asked)| {
            let missing = known.values().filter(|one| !one.has(side)).map(|one| point_id(&one.id));
            let ids = missing.chain(around.iter().cloned()).collect();
            of(ids).query(asked.clone()).using(*side).build()
        });
        let has_vectors = sides.iter().any(|(side, _)| *side == DENSE);
        // A side of words returns nothing that holds none of them.
        let plain = (!has_vectors && !around.is_empty()).then(|| of(around.clone()).build());
        let second = self.query(others.chain(plain).collect()).await?;
        for ((side, _), points) in sides.iter().zip(&second) {
            for point in points {
                Scored::of(&mut known, point).score(side, point.score);
            }
        }
        for point in second.iter().skip(sides.len()).flatten() {
            Scored::of(&mut known, point);
        }
        let candidates = known.into_values().map(|one| Candidate {
            keyword: one.keyword.unwrap_or_default(),
            dense: one.dense.or(has_vectors.then_some(0.0)),
            id: one.id,
            document: one.document,
        });
        Ok(Found { candidates: candidates.collect(), facets })
    }

    /// Returns what the collection has; none when it is not there.
    async fn made(&self) -> Result<Option<Made>, Error> {
        let mut made = self.made.lock().await;
        if made.is_none() && self.client.collection_exists(&self.name).await.map_err(away)? {
            let info = self.client.collection_info(&self.name).await.map_err(away)?;
            let info = info.result.unwrap_or_default();
            let params = info.config.and_then(|config| config.params);
            let vectors = params.and_then(|params| params.vectors_config?.config);
            let dimension = match vectors {
                Some(VectorsKind::ParamsMap(map)) => map.map.get(DENSE).map(|one| one.size),
                _ => None,
            };
            *made = Some(Made { dimension, keys: info.payload_schema.into_keys().collect() });
        }
        Ok(made.clone())
    }

    /// Has what is there looked at anew.
    async fn forget(&self) {
        *self.made.lock().await = None;
    }

    /// Makes the collection, and an index for every key of a payload; for whoever alone changes it.
    async fn make(
        &self,
        dimension: Option<u64>,
        payload: &BTreeMap<String, serde_json::Value>,
    ) -> Result<(), Error> {
        // Another process may have made it anew since.
        self.forget().await;
        let known = self.made().await?;
        if known.as_ref().is_some_and(|made| made.dimension != dimension) {
            // The rows take another model only when there is no document: nothing is lost.
            self.client.delete_collection(&self.name).await.map_err(away)?;
            self.forget().await;
        }
        let mut made = self.made.lock().await;
        if made.is_none() {
            let mut sparse = SparseVectorsConfigBuilder::default();
            let words = SparseVectorParamsBuilder::default().modifier(Modifier::Idf);
            sparse.add_named_vector_params(WORDS, words);
            let mut create = CreateCollectionBuilder::new(&self.name).sparse_vectors_config(sparse);
            if let Some(size) = dimension {
                let mut dense = VectorsConfigBuilder::default();
                dense.add_named_vector_params(
                    DENSE,
                    VectorParamsBuilder::new(size, Distance::Cosine),
                );
                create = create.vectors_config(dense);
            }
            self.client.create_collection(create).await.map_err(away)?;
            *made = Some(Made { dimension, keys: HashSet::new() });
        }
        let Some(made) = made.as_mut() else { return Ok(()) };
        for key in payload.keys().map(String::as_str).chain(["position", "first"]) {
            if !made.keys.contains(key) {
                let kind = match key {
                    "first" => FieldType::Bool,
                    "position" => FieldType::Float,
                    key if key.starts_with("b.") => FieldType::Bool,
                    key if key.starts_with("n.") => FieldType::Float,
                    _ => FieldType::Keyword,
                };
                let index =
                    CreateFieldIndexCollectionBuilder::new(&self.name, key, kind).wait(true);
                self.client.create_field_index(index).await.map_err(away)?;
                made.keys.insert(key.to_owned());
            }
        }
        Ok(())
    }

    /// After a fault, what is there is looked at anew: it may be gone.
    async fn heard<T>(&self, answer: Result<T, QdrantError>) -> Result<T, Error> {
        if answer.is_err() {
            self.forget().await;
        }
        answer.map_err(away)
    }

    async fn delete(&self, which: Conditions) -> Result<(), Error> {
        let delete = DeletePointsBuilder::new(&self.name).points(which).wait(true);
        self.heard(self.client.delete_points(delete).await).await?;
        Ok(())
    }

    async fn query(&self, asked: Vec<QueryPoints>) -> Result<Vec<Vec<ScoredPoint>>, Error> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let batch = QueryBatchPointsBuilder::new(&self.name, asked);
        let reply = self.heard(self.client.query_batch(batch).await).await?;
        Ok(reply.result.into_iter().map(|one| one.result).collect())
    }

    /// Returns what is asked of each side.
    fn sides(&self, made: &Made, query: &Query) -> Vec<(&'static str, Asked)> {
        let mut sides = Vec::new();
        let mut terms = HashSet::new();
        reading::each_term(&query.text, |term| {
            terms.insert(number(term));
        });
        if !terms.is_empty() {
            let (indices, ones): (Vec<u32>, Vec<f32>) =
                terms.into_iter().map(|term| (term, 1.0)).unzip();
            sides.push((WORDS, Asked::new_nearest(VectorInput::new_sparse(indices, ones))));
        }
        if let (Some(vector), Some(_)) = (&query.vector, made.dimension) {
            sides.push((DENSE, Asked::new_nearest(VectorInput::new_dense(vector.clone()))));
        }
        sides
    }

    async fn facets(
        &self,
        made: &Made,
        fields: &[String],
        filter: Option<&Conditions>,
    ) -> Result<Vec<Vec<(Value, u64)>>, Error> {
        let mut facets = Vec::with_capacity(fields.len());
        for field in fields {
            let mut counted: Vec<(Value, u64)> = Vec::new();
            for kind in ["t", "s", "b"] {
                let key = format!("{kind}.{field}");
                if !made.keys.contains(&key) {
                    continue;
                }
                let first = Condition::matches("first", true);
                let which = filter.cloned().map(Condition::from);
                let which = Conditions::must(which.into_iter().chain([first]));
                let facet = FacetCountsBuilder::new(&self.name, key)
                    .filter(which)
                    .limit(FACET_VALUES as u64)
                    .exact(true);
                let reply = self.heard(self.client.facet(facet).await).await?;
                counted.extend(reply.hits.into_iter().filter_map(|hit| {
                    let value = match hit.value?.variant? {
                        Variant::StringValue(text) if kind == "s" => {
                            Value::Number(text.parse().ok()?)
                        }
                        Variant::StringValue(text) => Value::Text(text),
                        Variant::BoolValue(value) => Value::Boolean(value),
                        Variant::IntegerValue(_) => return None,
                    };
                    Some((value, hit.count))
                }));
            }
            counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            counted.truncate(FACET_VALUES);
            facets.push(counted);
        }
        Ok(facets)
    }
}

/// A passage with what is known of its scores.
struct Scored {
    id: String,
    document: String,
    keyword: Option<f32>,
    dense: Option<f32>,
}

impl Scored {
    fn has(&self, side: &str) -> bool {
        if side == WORDS { self.keyword.is_some() } else { self.dense.is_some() }
    }

    /// Returns what is known of a passage.
    fn of<'a>(known: &'a mut HashMap<String, Self>, point: &ScoredPoint) -> &'a mut Self {
        let text = |key: &str| match point.payload.get(key).and_then(|value| value.kind.as_ref()) {
            Some(qdrant_client::qdrant::value::Kind::StringValue(text)) => text.clone(),
            _ => String::new(),
        };
        known.entry(text("id")).or_insert_with_key(|id| Self {
            id: id.clone(),
            document: text("document"),
            keyword: None,
            dense: None,
        })
    }

    fn score(&mut self, side: &str, score: f32) {
        match side {
            WORDS => self.keyword = Some(rounded(score)),
            _ => self.dense = Some(score),
        }
    }
}

/// Rounds a score to some four digits. Qdrant adds a passage's words up in an order that depends on the segment it lies in:
/// without this, passages of the same text are ranked by chance. Two on either side of a step still are.
fn rounded(score: f32) -> f32 {
    const DROPPED: u32 = 10;
    f32::from_bits((score.to_bits() + (1 << (DROPPED - 1))) >> DROPPED << DROPPED)
}

/// Returns the ids of the passages around one.
fn around(point: &ScoredPoint) -> Vec<String> {
    let Some(id) = point.payload.get("id").and_then(|id| id.as_str()) else { return Vec::new() };
    let Some((document, position)) = id.rsplit_once('-') else { return Vec::new() };
    let Ok(position) = position.parse::<usize>() else { return Vec::new() };
    let positions = position.saturating_sub(AROUND)..=position + AROUND;
    positions.map(|position| format!("{document}-{position}")).collect()
}

fn points(
    document: &str,
    read: &ReadDocument,
    payload: &BTreeMap<String, serde_json::Value>,
) -> Vec<PointStruct> {
    let point = |(position, (entry, words)): (usize, (&Entry, Vec<_>))| {
        // Two words of one number are one to Qdrant.
        let words: HashMap<u32, f32> =
            words.into_iter().map(|(term, part)| (number(term), part)).collect();
        let (indices, values): (Vec<u32>, Vec<f32>) = words.into_iter().unzip();
        let mut vectors =
            NamedVectors::default().add_vector(WORDS, Vector::new_sparse(indices, values));
        if let Some(vector) = &entry.vector {
            vectors = vectors.add_vector(DENSE, Vector::new_dense(vector.clone()));
        }
        let mut nested = json!({
            "id": entry.id, "document": document, "position": position, "first": position == 0,
        });
        for (key, value) in payload {
            match key.split_once('.') {
                Some((kind, field)) => nested[kind][field] = value.clone(),
                None => nested[key] = value.clone(),
            }
        }
        let payload = Payload::try_from(nested).unwrap_or_default();
        PointStruct::new(point_id(&entry.id), vectors, payload)
    };
    read.entries.passages.iter().zip(read.weighed(MEAN_LENGTH)).enumerate().map(point).collect()
}

/// Returns what a document is filtered by under the keys that filters look at: texts under `t`, truths under `b`,
/// numbers under `n`, and as texts, for counting, under `s`.
fn payload(
    document: &str,
    fields: &BTreeMap<String, Vec<Value>>,
) -> BTreeMap<String, serde_json::Value> {
    let mut payload = BTreeMap::new();
    payload.insert("document".to_owned(), json!(document));
    for (field, values) in fields {
        let field = key(field);
        let mut add = |kind: &str, value: serde_json::Value| {
            let list = payload.entry(format!("{kind}.{field}")).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        };
        for value in values {
            match value {
                Value::Text(text) => add("t", json!(text)),
                Value::Boolean(value) => add("b", json!(value)),
                Value::Number(value) => {
                    add("n", json!(value));
                    add("s", json!(value.to_string()));
                }
            }
        }
    }
    payload
}

/// Returns a field as it stands in a key: dates have a name that a path cannot have.
fn key(field: &str) -> String {
    field.replace('@', "__")
}

fn conditions(filter: &Filter) -> Conditions {
    match filter {
        Filter::All(parts) => Conditions::must(parts.iter().map(|part| conditions(part).into())),
        Filter::Any(parts) => Conditions::should(parts.iter().map(|part| conditions(part).into())),
        Filter::Not(part) => Conditions::must_not([Condition::from(conditions(part))]),
        Filter::In { field, values } => {
            let field = key(field);
            Conditions::should(values.iter().map(|value| match value {
                Value::Text(text) => Condition::matches(format!("t.{field}"), text.clone()),
                Value::Boolean(value) => Condition::matches(format!("b.{field}"), *value),
                Value::Number(value) => {
                    let same = Range { gte: Some(*value), lte: Some(*value), ..Range::default() };
                    Condition::range(format!("n.{field}"), same)
                }
            }))
        }
        Filter::Between { field, low, high } => {
            let at = |end: &Option<End>, within| {
                end.filter(|end| end.within == within).map(|end| end.at)
            };
            let range = Range {
                gt: at(low, false),
                gte: at(low, true),
                lt: at(high, false),
                lte: at(high, true),
            };
            Conditions::must([Condition::range(format!("n.{}", key(field)), range)])
        }
    }
}

/// Returns what a collection is called there: no tenant can choose the name of another's.
fn name(scope: &Scope) -> String {
    let hash = Sha256::digest(format!("{}\0{}", scope.tenant, scope.collection));
    let name = format!("baton-{}", hex(&hash[..16]));
    match scope.generation {
        0 => name,
        generation => format!("{name}-{generation}"),
    }
}

fn point_id(passage: &str) -> PointId {
    let hex = hex(&Sha256::digest(passage)[..16]);
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("{a}-{b}-{c}-{d}-{e}").into()
}

/// Returns a word's number: two words share one so seldom that it is not seen.
fn number(term: &str) -> u32 {
    let hash = Sha256::digest(term);
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn away(fault: QdrantError) -> Error {
    Error::Index(Box::new(fault))
}

/// Tells whether a collection is not what it was known to be.
fn is_of_another(fault: &Error) -> bool {
    let Error::Index(fault) = fault else { return false };
    match fault.downcast_ref() {
        Some(QdrantError::ResponseError { status }) => {
            matches!(status.code(), Code::NotFound | Code::InvalidArgument)
        }
        _ => false,
    }
}
