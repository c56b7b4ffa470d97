//! What the search finds on collections that others have judged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::path::{Path, PathBuf};

use retriever::evaluate::{Dataset, Measures, evaluate};

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
    let report = evaluate(&dataset, None, None, |_| ()).await.unwrap();
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

#[tokio::test]
async fn a_small_collection_is_searched_as_it_should_be() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judged");
    let measures = by_words(&path).await;
    assert!(measures.ndcg_10 > 0.99 && measures.recall_100 > 0.99, "{measures:?}");
}
