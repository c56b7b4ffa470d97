//! A collection that goes to another model.

use std::path::Path;

use proto::retriever::{
    Collection, Hit, Job, ListCollectionsRequest, ReindexRequest, RetryJobRequest, SearchRequest,
};
use retriever::{Config, Embedding, Qdrant};
use runtime::transport::Peer;
use sqlx::{Connection as _, Row as _};
use types::ErrorKind;

use super::{
    Caller, GetJobRequest, PutDocumentRequest, config, in_postgresql, over_each, request, serve,
    tiny_model,
};

/// Opens a retriever with models of these seeds, the configured one first.
async fn with_models(directory: &Path, seeds: &[u8], qdrant: Option<&str>) -> Peer {
    let mut models = seeds.iter().map(|seed| {
        let place = directory.join(seed.to_string());
        std::fs::create_dir_all(&place).unwrap();
        Embedding { model: Some(tiny_model(&place, *seed)), threads: 1, ..Embedding::default() }
    });
    let embedding = models.next();
    let former_embeddings = models.collect();
    let qdrant = qdrant.map(|url| Qdrant { url: url.to_owned(), api_key: None });
    let config = Config { embedding, former_embeddings, qdrant, ..config(directory) };
    serve(config).await.unwrap()
}

async fn reindex(caller: &mut Caller) -> Result<Job, tonic::Status> {
    let message = ReindexRequest { collection: "default".to_owned() };
    let reply = caller.client.reindex(request(&caller.context, message)).await?;
    Ok(reply.into_inner().job.unwrap())
}

async fn switched(caller: &mut Caller, job: &str) -> Job {
    let wait = async {
        loop {
            let message = GetJobRequest { job: job.to_owned(), ..GetJobRequest::default() };
            let reply = caller.client.get_job(request(&caller.context, message)).await.unwrap();
            let job = reply.into_inner().job.unwrap();
            if job.switched {
                return job;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(180), wait).await.unwrap()
}

async fn collection(caller: &mut Caller) -> Collection {
    let all = request(&caller.context, ListCollectionsRequest {});
    caller.client.list_collections(all).await.unwrap().into_inner().collections.remove(0)
}

async fn search(caller: &mut Caller) -> Vec<Hit> {
    let query = "apple fig".to_owned();
    caller.ask(SearchRequest { query, ..SearchRequest::default() }).await.unwrap().hits
}

fn scores(hits: &[Hit]) -> Vec<(String, f64, Option<f64>)> {
    let shown = hits.iter().map(|hit| {
        let dense = hit.explanation.as_ref().unwrap().dense;
        (hit.passage.as_ref().unwrap().source.clone(), hit.score, dense)
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

async fn fill(caller: &mut Caller) {
    for (source, text) in
        [("a.txt", "apple pear"), ("b.txt", "plum fig"), ("c.txt", "apple kiwi fig")]
    {
        caller.put(source, text.as_bytes()).await.unwrap();
    }
}

/// The old vectors serve until the new ones do, also through restarts; then it is as if it had been made anew.
async fn goes_over(directory: &Path, qdrants: Option<[&str; 2]>) {
    let clean = tempfile::tempdir().unwrap();
    let (here, there) = (qdrants.map(|urls| urls[0]), qdrants.map(|urls| urls[1]));
    // Both may be in one Qdrant.
    let mut wanted = Caller::new(&with_models(clean.path(), &[2], there).await, "clean");
    fill(&mut wanted).await;
    wanted.put("d.txt", b"apple apple").await.unwrap();
    let wanted = scores(&search(&mut wanted).await);

    let mut caller = Caller::new(&with_models(directory, &[1], here).await, "a");
    fill(&mut caller).await;
    let before = collection(&mut caller).await;
    let refused = reindex(&mut caller).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict, "{refused}");

    drop(caller);
    let mut caller = Caller::new(&with_models(directory, &[2, 1], here).await, "a");
    caller.put("d.txt", b"apple apple").await.unwrap();
    assert_eq!(collection(&mut caller).await.model, before.model, "it goes on with its own");
    let job = reindex(&mut caller).await.unwrap();
    assert_eq!(job.queued + job.running + job.done, 4, "{job:?}");
    for _ in 0..3 {
        // Whatever was under way ends with its process, and is begun again, at most five times.
        assert_eq!(search(&mut caller).await.len(), 4);
        drop(caller);
        caller = Caller::new(&with_models(directory, &[2, 1], here).await, "a");
    }
    let searching = async {
        loop {
            let hits = search(&mut caller.again()).await;
            assert!(hits.len() == 4 && scores(&hits).iter().all(|one| one.2.is_some()));
            tokio::task::yield_now().await;
        }
    };
    let mut other = caller.again();
    tokio::select! {
        () = searching => {}
        ended = switched(&mut other, &job.id) => assert_eq!((ended.done, ended.failed), (4, 0)),
    }
    drop(other);
    let after = collection(&mut caller).await;
    assert!(after.model != before.model && Some(&after.model) == job.model.as_ref(), "{after:?}");
    for seeds in [&[2, 1][..], &[2]] {
        let found = scores(&search(&mut caller).await);
        assert_eq!(found.len(), wanted.len());
        for (is, wanted) in found.iter().zip(&wanted) {
            assert_eq!(is.0, wanted.0);
            assert!((is.1 - wanted.1).abs() < 1e-5, "{found:?} {wanted:?}");
        }
        drop(caller);
        caller = Caller::new(&with_models(directory, seeds, here).await, "a");
    }
    caller.put("e.txt", b"plum").await.unwrap();
    let refused = reindex(&mut caller).await.unwrap_err();
    assert!(refused.message().contains("has the vectors of the configured model"), "{refused}");
}

over_each!(another_models_vectors_serve_when_all_of_them_are_there);
async fn another_models_vectors_serve_when_all_of_them_are_there(directory: &Path) {
    goes_over(directory, None).await;
}

#[tokio::test]
async fn another_models_vectors_serve_when_all_of_them_are_in_qdrant() {
    let (here, there) =
        (testkit::Qdrant::start().await.unwrap(), testkit::Qdrant::start().await.unwrap());
    let (_server, directory) = in_postgresql();
    goes_over(directory.path(), Some([&here.url, &there.url])).await;
}

#[tokio::test]
async fn of_two_retrievers_one_begins_a_reindex_and_one_ends_it() {
    let (_server, directory) = in_postgresql();
    let qdrant = testkit::Qdrant::stand_in("127.0.0.1:0").await.unwrap();
    let open = async |seeds: &[u8]| {
        Caller::new(&with_models(directory.path(), seeds, Some(&qdrant.url)).await, "a")
    };
    let mut caller = open(&[1]).await;
    fill(&mut caller).await;
    drop(caller);
    let (mut one, mut other) = (open(&[2, 1]).await, open(&[2, 1]).await);
    let (first, second) = tokio::join!(reindex(&mut one), reindex(&mut other));
    let (begun, refused) = match first {
        Ok(begun) => (begun, second.unwrap_err()),
        Err(refused) => (second.unwrap(), refused),
    };
    assert!(refused.message().contains(&format!("job {} re-indexes", begun.id)), "{refused}");
    let ended = switched(&mut one, &begun.id).await;
    assert_eq!((ended.done, ended.failed), (3, 0));
    for caller in [&mut one, &mut other] {
        let hits = search(caller).await;
        assert_eq!(hits.len(), 3);
        assert!(scores(&hits).iter().all(|one| one.2.is_some()));
        assert_eq!(collection(caller).await.model, begun.model.clone().unwrap());
    }
    let address = std::fs::read_to_string(directory.path().join(super::ADDRESS)).unwrap();
    let mut db = sqlx::PgConnection::connect(&address).await.unwrap();
    let row = sqlx::query("SELECT generation FROM collections").fetch_one(&mut db).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 1, "it went over once");
}

over_each!(without_the_former_model_a_collection_can_be_reindexed_or_loses_its_vectors);
async fn without_the_former_model_a_collection_can_be_reindexed_or_loses_its_vectors(
    directory: &Path,
) {
    let mut caller = Caller::new(&with_models(directory, &[1], None).await, "a");
    let refused = reindex(&mut caller).await.unwrap_err();
    assert!(refused.message().contains("is empty"), "{refused}");
    fill(&mut caller).await;
    drop(caller);
    let mut caller = Caller::new(&with_models(directory, &[2], None).await, "a");
    let query = SearchRequest { query: "apple".to_owned(), ..SearchRequest::default() };
    let refused = caller.ask(query).await.unwrap_err();
    assert!(refused.message().contains("re-index it"), "{refused}");
    let job = reindex(&mut caller).await.unwrap();
    // Nothing can be added to it.
    let (source, content) = ("x.txt".to_owned(), "x".into());
    let document = Some(PutDocumentRequest { source, content, ..PutDocumentRequest::default() });
    let add = super::AddToJobRequest { job: job.id.clone(), document };
    let refused = caller.client.add_to_job(request(&caller.context, add)).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::NotFound);
    switched(&mut caller, &job.id).await;
    let retry = request(&caller.context, RetryJobRequest { job: job.id });
    assert_eq!(caller.client.retry_job(retry).await.unwrap().into_inner().queued, 0);
    assert!(
        search(&mut caller).await.iter().all(|hit| hit
            .explanation
            .as_ref()
            .unwrap()
            .dense
            .is_some())
    );

    drop(caller);
    let mut caller = Caller::new(&with_models(directory, &[], None).await, "a");
    let job = reindex(&mut caller).await.unwrap();
    assert_eq!(job.model.as_deref(), Some(""));
    switched(&mut caller, &job.id).await;
    let hits = search(&mut caller).await;
    assert_eq!((hits.len(), collection(&mut caller).await.dimension), (3, 0));
    assert!(hits.iter().all(|hit| hit.explanation.as_ref().unwrap().dense.is_none()));
}
