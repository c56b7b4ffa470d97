//! What the search finds on collections that others have judged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::path::{Path, PathBuf};

use retriever::Qdrant;
use retriever::embed::Local;
use retriever::evaluate::{Dataset, Measures, With, evaluate};

/// Judged collections lie beside the repository: they are too large for it.
fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let there = path.join("corpus.jsonl").exists();
    if !there {
        eprintln!("NOT TESTED: there is no {}", path.display());
    }
    Some(path).filter(|_| there)
}

async fn by_words(path: &Path) -> Measures {
    let dataset = Dataset::read(path).unwrap();
    let report = evaluate(&dataset, With::default(), |_| ()).await.unwrap();
    assert_eq!(report.configurations[0].name, "words");
    report.configurations[0].measures
}

#[tokio::test]
async fn words_find_what_answers_in_code_and_in_prose() {
    for (name, ndcg, recall) in [("code-chunks", 0.75, 0.96), ("chunk-eval", 0.82, 0.99)] {
        let Some(path) = beside(name) else { continue };
        let measures = by_words(&path).await;
        assert!(measures.ndcg_10 >= ndcg && measures.recall_100 >= recall, "{name}: {measures:?}");
    }
}

/// A collection that lies here.
fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judged")
}

#[tokio::test]
async fn a_small_collection_is_searched_as_it_should_be() {
    let measures = by_words(&small()).await;
    assert!(measures.ndcg_10 > 0.99 && measures.recall_100 > 0.99, "{measures:?}");
}

#[tokio::test]
async fn qdrant_is_measured_beside_memory_and_nothing_stays_there() {
    let server = testkit::Qdrant::stand_in("127.0.0.1:0").await.unwrap();
    let place = tempfile::tempdir().unwrap();
    testkit::model::write(place.path(), &["release", "vault", "executor", "diff"], 8, 1).unwrap();
    let model = Local::open(place.path(), None, 1).unwrap();
    let dataset = Dataset::read(&small()).unwrap();
    let qdrant = Qdrant { url: server.url.clone(), api_key: None };
    let with = With { model: Some(&model), qdrant: Some(&qdrant), ..With::default() };
    let report = evaluate(&dataset, with, |_| ()).await.unwrap();
    let (here, there) = report.configurations.split_at(report.configurations.len() / 2);
    assert_eq!(here.len(), 5);
    for (here, there) in here.iter().zip(there) {
        assert_eq!(there.name, format!("{}, in Qdrant", here.name));
        let (one, other) = (here.measures, there.measures);
        assert!((one.recall_100 - other.recall_100).abs() < 1e-9, "{here:?} {there:?}");
        if here.name.starts_with("words") {
            assert!(other.ndcg_10 > 0.99, "{there:?}");
        }
    }
    let client = qdrant_client::Qdrant::from_url(&server.url).skip_compatibility_check();
    let left = client.build().unwrap().list_collections().await.unwrap();
    assert!(left.collections.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_qdrant_that_is_not_there_is_told() {
    let dataset = Dataset::read(&small()).unwrap();
    let qdrant = Qdrant { url: "http://127.0.0.1:1".to_owned(), api_key: None };
    let with = With { qdrant: Some(&qdrant), ..With::default() };
    let told = evaluate(&dataset, with, |_| ()).await.unwrap_err().to_string();
    assert_eq!(told, "the index is unavailable");
}
