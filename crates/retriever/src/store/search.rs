//! From a question to the passages that answer it best.

use std::collections::HashSet;

use proto::retriever::{Explanation, Facet, FacetValue, Hit, SearchResponse};
use types::CallContext;

use super::Collection;
use crate::Error;
use crate::attributes::Value;
use crate::chunk::indexed;
use crate::filter::Filter;
use crate::fuse::{self, Ranked, across, rank};
use crate::index::{Query, Scope};
use crate::rerank::{Fault, Reranker, reorder};
use crate::rewrite::Rewriter;

/// A search.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) query: String,
    pub(crate) top_k: usize,
    pub(crate) filter: Option<proto::retriever::Filter>,
    pub(crate) facets: Vec<String>,
    pub(crate) one_per_document: bool,
    /// None: where a reranker is configured.
    pub(crate) rerank: Option<bool>,
    /// None: as configured.
    pub(crate) rewrite: Option<bool>,
}

/// What an index says.
struct Asked {
    /// Of each wording, best first.
    rankings: Vec<Vec<Ranked>>,
    /// Of each field asked for, its values.
    facets: Vec<Vec<(Value, u64)>>,
    /// Of the index.
    generation: u32,
}

impl Collection<'_> {
    /// Returns the best passages, best first. Whoever `context` names pays for the question's vector.
    pub(crate) async fn search(
        &self,
        context: &CallContext,
        search: Search,
    ) -> Result<SearchResponse, Error> {
        let reranker = self.store.models.reranker.as_ref();
        if search.rerank == Some(true) && reranker.is_none() {
            return Err(Error::Invalid("/rerank: no reranker is configured".to_owned()));
        }
        let rewriter = self.store.models.rewriter.as_ref();
        if search.rewrite == Some(true) && rewriter.is_none() {
            return Err(Error::Invalid("/rewrite: no rewriting is configured".to_owned()));
        }
        let collection = self.store.rows.collection(&self.scope).await?;
        if !collection.is_empty {
            // What is refused is refused before anything is bought.
            self.model(context, &collection).await?;
        }
        let filter = match (search.filter, &search.facets[..]) {
            (None, []) => None,
            (filter, facets) => {
                let known = self.store.rows.known(&self.scope).await?;
                for (facet, at) in facets.iter().zip(0..) {
                    known.kind(facet, &format!("/facets/{at}"))?;
                }
                filter.map(|filter| Filter::read(filter, &known)).transpose()?
            }
        };
        let mut warnings = Vec::new();
        let mut queries = vec![search.query.clone()];
        let wanted = |one: &&Rewriter| search.rewrite.unwrap_or_else(|| one.is_always());
        if let Some(rewriter) = rewriter.filter(wanted).filter(|_| !collection.is_empty) {
            match rewriter.wordings(context, &search.query).await {
                Ok(wordings) => queries.extend(wordings),
                Err(fault) => warnings.push(format!("not worded differently: {fault}")),
            }
        }
        let Asked { mut rankings, facets: counted, .. } = loop {
            let asked = self.asked(context, &queries, &search.facets, filter.as_ref()).await?;
            // Otherwise it has gone to another model meanwhile, and what was searched may be gone.
            if self.store.rows.collection(&self.scope).await?.generation == asked.generation {
                break asked;
            }
        };
        let mut ranked = match rankings.len() {
            1 => rankings.pop().unwrap_or_default(),
            _ => across(rankings),
        };
        if search.one_per_document {
            let mut seen = HashSet::new();
            ranked.retain(|ranked| seen.insert(ranked.candidate.document.clone()));
        }
        if let Some(reranker) = reranker.filter(|_| search.rerank != Some(false)) {
            ranked.truncate(self.store.rerank.0.max(search.top_k));
            if let Err(fault) = self.rerank(context, &**reranker, &search.query, &mut ranked).await
            {
                warnings.push(format!("not reranked: {fault}"));
            }
        }
        let facets = search.facets.into_iter().zip(counted).map(|(field, values)| Facet {
            field,
            values: values
                .into_iter()
                .map(|(value, documents)| FacetValue { value: Some(value.into()), documents })
                .collect(),
        });
        Ok(SearchResponse {
            hits: self.hits(ranked, search.top_k).await?,
            facets: facets.collect(),
            warnings,
            wordings: queries.split_off(1),
        })
    }

    /// Asks the index for every wording.
    async fn asked(
        &self,
        context: &CallContext,
        queries: &[String],
        facets: &[String],
        filter: Option<&Filter>,
    ) -> Result<Asked, Error> {
        let collection = self.store.rows.collection(&self.scope).await?;
        let generation = collection.generation;
        let model = match collection.is_empty {
            true => None,
            false => self.model(context, &collection).await?,
        };
        let vectors = match &model {
            Some(model) => {
                let vectors = self.queries(context, model, &collection, queries).await?;
                vectors.into_iter().map(Some).collect()
            }
            None => vec![None; queries.len()],
        };
        let scope = Scope { generation, ..self.scope.clone() };
        let index = self.store.indexes.open(&scope).await?;
        let (mut rankings, mut counted) = (Vec::with_capacity(queries.len()), Vec::new());
        for (text, vector) in queries.iter().cloned().zip(vectors) {
            // What the filter leaves is the same for every wording.
            let facets = if rankings.is_empty() { facets.to_vec() } else { Vec::new() };
            let query = Query { text, vector, filter: filter.cloned(), facets };
            let found = index.search(query).await?;
            if rankings.is_empty() {
                counted = found.facets;
            }
            rankings.push(rank(found.candidates, self.store.fusion, fuse::DOCUMENT_WEIGHT));
        }
        Ok(Asked { rankings, facets: counted, generation })
    }

    /// Has a reranker order passages; those that are gone by now are left out.
    async fn rerank(
        &self,
        context: &CallContext,
        reranker: &dyn Reranker,
        query: &str,
        ranked: &mut Vec<Ranked>,
    ) -> Result<(), Fault> {
        let away = |_| Fault::Failed("the passages cannot be read".to_owned());
        let ids: Vec<String> = ranked.iter().map(|one| one.candidate.id.clone()).collect();
        let there = self.store.rows.passages(&self.scope, &ids).await.map_err(away)?;
        ranked.retain(|one| there.contains_key(&one.candidate.id));
        let texts = ranked.iter().filter_map(|one| there.get(&one.candidate.id));
        let texts = texts.map(|passage| indexed(&passage.headings, &passage.text)).collect();
        let patience = context.time_left(self.store.rerank.1);
        let scores = tokio::time::timeout(patience, reranker.score(context, query, texts)).await;
        let late = |_| Fault::Failed("the reranker was too slow".to_owned());
        reorder(ranked, &scores.map_err(late)??);
        Ok(())
    }

    /// Reads the first `count` of the ranked passages that are there still.
    async fn hits(&self, ranked: Vec<Ranked>, count: usize) -> Result<Vec<Hit>, Error> {
        let mut hits = Vec::with_capacity(count);
        let mut ranked = ranked.into_iter();
        while hits.len() < count {
            let some: Vec<Ranked> = ranked.by_ref().take(count - hits.len()).collect();
            if some.is_empty() {
                break;
            }
            let ids: Vec<String> = some.iter().map(|one| one.candidate.id.clone()).collect();
            let mut passages = self.store.rows.passages(&self.scope, &ids).await?;
            hits.extend(some.into_iter().filter_map(|ranked| {
                let explanation = Explanation {
                    keyword: ranked.candidate.keyword.into(),
                    dense: ranked.candidate.dense.map(f64::from),
                    fused: ranked.fused.into(),
                    document: ranked.document.into(),
                    rerank: ranked.rerank.map(f64::from),
                    wordings: ranked.wordings.map(f64::from),
                };
                Some(Hit {
                    passage: Some(passages.remove(&ranked.candidate.id)?),
                    score: ranked.score.into(),
                    explanation: Some(explanation),
                })
            }));
        }
        Ok(hits)
    }
}
