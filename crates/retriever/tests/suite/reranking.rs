//! What a reranker, here or behind an endpoint, does to a search.

use std::path::Path;

use proto::retriever::{Hit, SearchRequest, SearchResponse};
use retriever::{Config, Endpoint, Rerank};
use testkit::provider::Provider;
use types::ErrorKind;

use super::{Caller, serve};

const WORDS: [&str; 4] = ["valve", "pump", "turns", "slowly"];

async fn caller(directory: &Path, rerank: Option<Rerank>) -> Caller {
    let config = Config { rerank, ..super::config(directory) };
    Caller::new(&serve(config).await.unwrap(), "a")
}

async fn search(caller: &mut Caller, query: &str, rerank: Option<bool>) -> SearchResponse {
    let query = query.to_owned();
    caller.ask(SearchRequest { query, rerank, ..SearchRequest::default() }).await.unwrap()
}

fn texts(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.passage.as_ref().unwrap().text.as_str()).collect()
}

fn reranked(hit: &Hit) -> Option<f64> {
    hit.explanation.as_ref().unwrap().rerank
}

#[tokio::test]
async fn passages_stand_as_a_model_that_reads_them_says() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("reranker");
    testkit::model::write_reranker(&model, &WORDS, 8, 5).unwrap();
    let rerank = Rerank { model: Some(model), threads: 1, candidates: 2, ..Rerank::default() };
    let mut caller = caller(directory.path(), Some(rerank)).await;
    for (source, text) in [
        ("a.txt", "valve valve"),
        ("b.txt", "the valve turns slowly and the pump turns"),
        ("c.txt", "a pump and a valve"),
        ("d.txt", "valve turns turns"),
    ] {
        caller.put(source, text.as_bytes()).await.unwrap();
    }
    let plain = search(&mut caller, "valve turns", Some(false)).await.hits;
    assert!(plain.len() == 4 && plain.iter().all(|hit| reranked(hit).is_none()));
    let hits = search(&mut caller, "valve turns", None).await.hits;
    assert_eq!(hits.len(), 4, "as many as are asked for are read");
    let scores: Vec<f64> = hits.iter().map(|hit| reranked(hit).unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    for (hit, score) in hits.iter().zip(scores) {
        assert!((hit.score - score).abs() < 1e-9);
        let before = plain.iter().find(|one| one.passage == hit.passage).unwrap();
        let (why, was) = (hit.explanation.as_ref().unwrap(), before.explanation.as_ref().unwrap());
        assert_eq!((why.keyword, why.fused, why.document), (was.keyword, was.fused, was.document));
    }
}

#[tokio::test]
async fn an_endpoint_on_this_machine_reranks_and_without_it_the_order_stays() {
    let provider = Provider::start().await.unwrap();
    let endpoint = Endpoint {
        url: format!("{}/v1/rerank", provider.url),
        model: "m-rerank".to_owned(),
        api_key: None,
        local_networks: Vec::new(),
    };
    let rerank = Rerank { endpoint: Some(endpoint), ..Rerank::default() };
    let directory = tempfile::tempdir().unwrap();
    let mut caller = caller(directory.path(), Some(rerank)).await;
    caller.put("a.txt", b"refuse valve valve").await.unwrap();
    caller.put("b.txt", b"refuse a long text about another valve").await.unwrap();
    let found = search(&mut caller, "valve", Some(true)).await;
    assert_eq!(texts(&found.hits)[0], "refuse a long text about another valve");
    assert!(found.warnings.is_empty());
    let found = search(&mut caller, "refuse", None).await;
    assert_eq!(
        texts(&found.hits)[0],
        "refuse valve valve",
        "the shorter is the better by its words"
    );
    assert!(found.hits.iter().all(|hit| reranked(hit).is_none()));
    assert_eq!(found.warnings, ["not reranked: the reranker answered 500"]);
}

#[tokio::test]
async fn a_reranker_is_asked_for_only_where_there_is_one_and_is_local() {
    let directory = tempfile::tempdir().unwrap();
    let mut caller = caller(directory.path(), None).await;
    let query = "valve".to_owned();
    let message = SearchRequest { query, rerank: Some(true), ..SearchRequest::default() };
    let refused = caller.ask(message).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    let (model, api_key, local_networks) = (String::new(), None, Vec::new());
    let url = "https://203.0.113.1/v1/rerank".to_owned();
    let endpoint = Some(Endpoint { url, model, api_key, local_networks });
    let rerank = Some(Rerank { endpoint, ..Rerank::default() });
    let place = directory.path().join("other.db");
    let refused = serve(Config { rerank, ..Config::at(&place) }).await;
    let told = format!("{:#}", refused.err().unwrap());
    assert!(told.contains("203.0.113.1 is not a local address"), "{told}");
}
