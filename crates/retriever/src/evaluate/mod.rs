//! Measures the search on judged queries: the same passages, index and ranking as a tenant's documents have.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use retriever::evaluate::{Dataset, With, evaluate};
//!
//! let dataset = Dataset::read("judged".as_ref())?;
//! let report = evaluate(&dataset, With::default(), |_| ()).await?;
//! println!("{:.3}", report.configurations[0].measures.ndcg_10);
//! # Ok(())
//! # }
//! ```

mod dataset;
mod measure;

use std::collections::HashSet;

use rustc_hash::FxHashMap;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use types::TenantId;

pub use self::dataset::{Dataset, Fault};
pub use self::measure::Measures;
use self::measure::{mean, measure, significance};
use crate::chunk::{chunk, indexed};
use crate::embed::{Local, Side, normalise};
use crate::fuse::{self, DOCUMENT_WEIGHT, Fusion, Ranked, rank};
use crate::index::{Entries, Entry, Index, Indexes, Memory, Qdrant, Query, Scope};
use crate::parse::parse;
use crate::rerank::{self, reorder};
use crate::{Error, config};

/// What is measured besides words in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct With<'a> {
    /// An embedding model.
    pub model: Option<&'a Local>,
    /// A reranker.
    pub reranker: Option<&'a rerank::Local>,
    /// Where every configuration is measured a second time, in a collection of its own that is removed afterwards.
    pub qdrant: Option<&'a config::Qdrant>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many documents were searched.
    pub documents: usize,
    /// Into how many passages they were cut.
    pub passages: usize,
    /// How many queries have a relevant document.
    pub queries: usize,
    /// The default first; those in memory before those in Qdrant.
    pub configurations: Vec<Configuration>,
    /// The best weight of the vectors, in memory; none without a model.
    pub fusion: Option<Tuned>,
}

/// One way to search.
#[derive(Debug, Clone, Serialize)]
pub struct Configuration {
    /// What it is called.
    pub name: String,
    /// Means over the queries.
    #[serde(flatten)]
    pub measures: Measures,
    /// How likely a difference of nDCG@10 from the default's as large as this is by chance, 0 to 1; none for
    /// the default itself.
    pub p_value: Option<f64>,
}

/// What weight of the vectors suits these queries.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tuned {
    /// The best for all queries.
    pub dense_weight: f32,
    /// The mean nDCG@10 of each fifth of the queries with the weight that is best for the other four: what to
    /// expect of the best weight on queries that were not asked yet.
    #[serde(rename = "cross_validated_ndcg@10")]
    pub ndcg_10: f64,
    /// How likely its difference from the default is chance.
    pub p_value: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A document cannot be cut into passages.
    #[error("document {0:?}: {1}")]
    Document(String, String),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] crate::embed::Fault),
    /// The reranker failed.
    #[error(transparent)]
    Rerank(#[from] rerank::Fault),
    /// Qdrant is not reached, or failed.
    #[error(transparent)]
    Index(#[from] Error),
}

/// Indexes the documents and asks every query in every configuration. `progress` hears how far it is.
///
/// # Errors
/// If a document cannot be cut, or a model or an index fails.
pub async fn evaluate(
    dataset: &Dataset,
    with: With<'_>,
    progress: impl Fn(String),
) -> Result<Report, Broken> {
    let Cut { files, owners, texts } = cut(dataset, with.model, &progress).await?;
    let vectors = match with.model {
        Some(model) => {
            let texts = dataset.queries.iter().map(|query| query.text.clone()).collect();
            let mut vectors = model.embed(texts, Side::Query).await?;
            vectors.iter_mut().for_each(|vector| normalise(vector));
            vectors.into_iter().map(Some).collect()
        }
        None => vec![None; dataset.queries.len()],
    };
    let run = Run { dataset, with, files, owners, texts, vectors };
    let index = Memory::default().open(&scope()).await?;
    let mut all = run.measured(&*index, &progress).await?;
    let default = gains(&all[0].1);
    let fusion = match with.model {
        Some(_) => tuned(&run.weighed(&*index).await?, &default),
        None => None,
    };
    if let Some(qdrant) = with.qdrant {
        let there = run.in_qdrant(qdrant, &progress).await?;
        all.extend(there.into_iter().map(|(name, one)| (format!("{name}, in Qdrant"), one)));
    }
    let configurations = all.into_iter().enumerate().map(|(at, (name, measures))| Configuration {
        name,
        measures: mean(&measures),
        p_value: (at > 0).then(|| significance(&gains(&measures), &default)),
    });
    Ok(Report {
        documents: dataset.documents.len(),
        passages: run.owners.len(),
        queries: dataset.queries.len(),
        configurations: configurations.collect(),
        fusion,
    })
}

/// Which document of the corpus each passage is of.
type Owners = FxHashMap<String, usize>;

/// So many of the best passages are reranked.
const RERANKED: usize = 50;

/// What is indexed.
struct Cut<'a> {
    /// Each file's passages, in order.
    files: Vec<(&'a str, Vec<Entry>)>,
    owners: Owners,
    /// What is indexed of each passage.
    texts: FxHashMap<String, String>,
}

/// Cuts documents. What was cut from one file before (`metadata.doc`) is one document again.
async fn cut<'a>(
    dataset: &'a Dataset,
    model: Option<&Local>,
    progress: impl Fn(String),
) -> Result<Cut<'a>, Broken> {
    let mut texts = FxHashMap::default();
    let mut owners = Owners::default();
    let mut files: Vec<(&str, Vec<Entry>)> = Vec::new();
    let mut known: FxHashMap<&str, usize> = FxHashMap::default();
    for (document, number) in dataset.documents.iter().zip(0..) {
        let file = document.metadata.doc.as_deref().unwrap_or(&document.id);
        let at = *known.entry(file).or_insert_with(|| {
            files.push((file, Vec::new()));
            files.len() - 1
        });
        let passages = &mut files[at].1;
        let parsed = parse(&document.id, "text/plain", document.text.as_bytes())
            .map_err(|fault| Broken::Document(document.id.clone(), fault.to_string()))?;
        let title: Vec<String> =
            Some(&document.title).filter(|title| !title.is_empty()).into_iter().cloned().collect();
        for cut in chunk(&parsed) {
            // As a tenant's: an index knows by it which passages stand beside one.
            let id = format!("{file}-{}", passages.len());
            owners.insert(id.clone(), number);
            let text = indexed(&title, &parsed.text[cut.range]);
            texts.insert(id.clone(), text.clone());
            passages.push(Entry { id, text, vector: None });
        }
    }
    if let Some(model) = model {
        let mut entries: Vec<&mut Entry> =
            files.iter_mut().flat_map(|(_, entries)| entries).collect();
        let mut done = 0;
        for some in entries.chunks_mut(256) {
            let texts = some.iter().map(|entry| entry.text.clone()).collect();
            for (entry, vector) in some.iter_mut().zip(model.embed(texts, Side::Document).await?) {
                entry.vector = Some(vector);
            }
            done += some.len();
            progress(format!("{done} passages have their vectors"));
        }
    }
    Ok(Cut { files, owners, texts })
}

/// Returns a collection that nobody else has.
fn scope() -> Scope {
    let collection = "evaluation".to_owned();
    Scope { tenant: TenantId::generate(), collection, generation: 0 }
}

/// A configuration's name, and what it gives at every query.
type Named = (String, Vec<Measures>);

struct Run<'a> {
    dataset: &'a Dataset,
    with: With<'a>,
    files: Vec<(&'a str, Vec<Entry>)>,
    owners: Owners,
    texts: FxHashMap<String, String>,
    /// Of each query.
    vectors: Vec<Option<Vec<f32>>>,
}

impl Run<'_> {
    /// Measures every configuration in a collection that is removed afterwards.
    async fn in_qdrant(
        &self,
        config::Qdrant { url, api_key }: &config::Qdrant,
        progress: impl Fn(String),
    ) -> Result<Vec<Named>, Broken> {
        let key = api_key.as_ref().map(|key| key.expose_secret());
        let indexes = Qdrant::new(url, key).map_err(|fault| Error::Index(fault.into()))?;
        let scope = scope();
        let measured = self.measured(&*indexes.open(&scope).await?, progress).await;
        let removed = indexes.remove(&scope).await;
        let measured = measured?;
        removed?;
        Ok(measured)
    }

    /// Fills an index, and measures every configuration.
    async fn measured(
        &self,
        index: &dyn Index,
        progress: impl Fn(String),
    ) -> Result<Vec<Named>, Broken> {
        for (file, passages) in &self.files {
            let entries = Entries { passages: passages.clone(), ..Entries::default() };
            index.replace(file, entries).await?;
        }
        let mut all = Vec::new();
        if self.with.model.is_some() {
            let vectors = Fusion::Convex { dense_weight: 1.0 };
            let ways = [Fusion::default(), Fusion::Rrf { k: fuse::K }, vectors];
            let measures = self.asked(index, true, &ways.map(|one| (one, DOCUMENT_WEIGHT))).await?;
            let names = ["hybrid", "hybrid, reciprocal ranks", "vectors"];
            all.extend(names.map(str::to_owned).into_iter().zip(measures));
        }
        let ways = [DOCUMENT_WEIGHT, 0.0].map(|weight| (Fusion::default(), weight));
        let names = ["words", "words, documents apart"].map(str::to_owned);
        all.extend(names.into_iter().zip(self.asked(index, false, &ways).await?));
        if let Some(reranker) = self.with.reranker {
            let reranked = self.reranked(index, reranker, progress).await?;
            all.push((format!("{}, reranked", all[0].0), reranked));
        }
        Ok(all)
    }

    /// Returns what each weight of the vectors gains at every query.
    async fn weighed(&self, index: &dyn Index) -> Result<Vec<(f32, Vec<f64>)>, Broken> {
        let weights: Vec<f32> = (0..=10_u8).map(|tenths| f32::from(tenths) / 10.0).collect();
        let convex = |dense_weight: &f32| Fusion::Convex { dense_weight: *dense_weight };
        let ways: Vec<_> = weights.iter().map(convex).map(|one| (one, DOCUMENT_WEIGHT)).collect();
        let measures = self.asked(index, true, &ways).await?;
        Ok(weights.into_iter().zip(measures.iter().map(|one| gains(one))).collect())
    }

    /// Asks every query, ranks what comes in several ways (how two scores become one, and how much of the best
    /// one's a document's others gain), and returns what each gives.
    async fn asked(
        &self,
        index: &dyn Index,
        vectors: bool,
        ways: &[(Fusion, f32)],
    ) -> Result<Vec<Vec<Measures>>, Broken> {
        let mut measures = vec![Vec::new(); ways.len()];
        for (query, vector) in self.dataset.queries.iter().zip(&self.vectors) {
            let vector = vector.clone().filter(|_| vectors);
            let asked = Query { text: query.text.clone(), vector, ..Query::default() };
            let found = index.search(asked).await?.candidates;
            for ((fusion, document_weight), measures) in ways.iter().zip(&mut measures) {
                let ranked = rank(found.clone(), *fusion, *document_weight);
                measures.push(measure(&self.documents(&ranked), &query.relevant));
            }
        }
        Ok(measures)
    }

    /// Asks every query as by default, has the best passages reranked, and measures what comes.
    async fn reranked(
        &self,
        index: &dyn Index,
        reranker: &rerank::Local,
        progress: impl Fn(String),
    ) -> Result<Vec<Measures>, Broken> {
        let mut measures = Vec::new();
        for (query, vector) in self.dataset.queries.iter().zip(&self.vectors) {
            let asked =
                Query { text: query.text.clone(), vector: vector.clone(), ..Query::default() };
            let found = index.search(asked).await?.candidates;
            let mut ranked = rank(found, Fusion::default(), DOCUMENT_WEIGHT);
            let best = ranked.iter().take(RERANKED);
            let best =
                best.map(|one| self.texts.get(&one.candidate.id).cloned().unwrap_or_default());
            let scores = reranker.score(&query.text, best.collect()).await?;
            reorder(&mut ranked, &scores);
            measures.push(measure(&self.documents(&ranked), &query.relevant));
            progress(format!("{} queries are reranked", measures.len()));
        }
        Ok(measures)
    }

    /// Returns the documents of ranked passages, each once.
    fn documents(&self, ranked: &[Ranked]) -> Vec<&str> {
        let mut seen = HashSet::new();
        ranked
            .iter()
            .filter_map(|ranked| self.owners.get(&ranked.candidate.id))
            .filter(|document| seen.insert(**document))
            .map(|document| self.dataset.documents[*document].id.as_str())
            .collect()
    }
}

fn gains(measures: &[Measures]) -> Vec<f64> {
    measures.iter().map(|measures| measures.ndcg_10).collect()
}

/// Finds the best of some weights, each with its gain at every query.
fn tuned(weights: &[(f32, Vec<f64>)], default: &[f64]) -> Option<Tuned> {
    const FOLDS: usize = 5;
    let best = |taken: &dyn Fn(usize) -> bool| {
        let sum = |gains: &[f64]| -> f64 {
            gains.iter().enumerate().filter(|(at, _)| taken(*at)).map(|(_, gain)| gain).sum()
        };
        weights.iter().max_by(|a, b| sum(&a.1).total_cmp(&sum(&b.1)))
    };
    let mut unseen = vec![0.0; default.len()];
    for fold in 0..FOLDS {
        let (_, gains) = best(&|at| at % FOLDS != fold)?;
        for at in (fold..unseen.len()).step_by(FOLDS) {
            unseen[at] = gains[at];
        }
    }
    Some(Tuned {
        dense_weight: best(&|_| true)?.0,
        ndcg_10: unseen.iter().sum::<f64>() / unseen.len().max(1) as f64,
        p_value: significance(&unseen, default),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_judged_by_queries_that_did_not_choose_it() {
        let one = (0..10).map(|at| if at % 5 == 0 { 1.0 } else { 0.5 }).collect();
        let other = (0..10).map(|at| if at % 5 == 0 { 0.0 } else { 0.6 }).collect();
        let tuned = tuned(&[(0.1, one), (0.9, other)], &[0.5; 10]).unwrap();
        assert!((tuned.dense_weight - 0.1).abs() < 1e-6, "0.6 and 0.48");
        // Without the first fifth the other is better, and fails at it.
        assert!((tuned.ndcg_10 - 0.4).abs() < 1e-9, "{}", tuned.ndcg_10);
    }
}
