//! What kill -9 leaves.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use journeys::{Shape, System};
use serde_json::json;

const DOCUMENTS: usize = 60;

async fn upload(system: &System, number: usize) -> reqwest::Result<serde_json::Value> {
    let text = format!("# Part {number}\n\n{}\n", format!("Word{number} is here. ").repeat(400));
    system.upload(&format!("{number}.md"), &text).await
}

async fn sources(system: &System) -> Vec<String> {
    let (_, list) = system.get("/api/v1/documents?page_size=1000").await.unwrap();
    let documents = list["documents"].as_array().unwrap().iter();
    documents.map(|document| document["source"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_ingest_that_was_killed_is_completed_and_nothing_is_doubled() {
    for shape in Shape::ALL {
        let system = System::start(shape, "").await.unwrap();
        // Four at once, killed when a third is acknowledged and others are on their way.
        let mut uploads = stream::iter(0..DOCUMENTS)
            .map(|number| {
                let upload = upload(&system, number);
                async move { (number, upload.await) }.boxed()
            })
            .buffer_unordered(4);
        let mut acknowledged = BTreeSet::new();
        while acknowledged.len() < DOCUMENTS / 3 {
            let (number, done) = uploads.next().await.unwrap();
            done.unwrap();
            acknowledged.insert(format!("{number}.md"));
        }
        drop(uploads);
        let data = system.kill().await.unwrap();

        let system = System::start_in(data, shape, "").await.unwrap();
        let kept: BTreeSet<_> = sources(&system).await.into_iter().collect();
        assert!(acknowledged.is_subset(&kept), "{acknowledged:?} {kept:?}");
        for number in 0..DOCUMENTS {
            upload(&system, number).await.unwrap();
        }
        let all = sources(&system).await;
        assert_eq!(all.len(), DOCUMENTS);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), DOCUMENTS);
        let query = json!({ "query": "Word7", "top_k": 50 });
        let (_, found) = system.post("/api/v1/search", &query).await.unwrap();
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let ids = found["results"].as_array().unwrap().iter().map(|hit| hit["passage_id"].as_str());
        let ids: Vec<_> = ids.collect();
        assert!(!ids.is_empty(), "{found}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{found}");
    }
}
