//! The retriever as its callers meet it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

#[path = "suite/entries.rs"]
mod entries;
#[path = "suite/jobs.rs"]
mod jobs;
#[path = "suite/onnxruntime.rs"]
mod onnxruntime;
#[path = "suite/parsing.rs"]
mod parsing;
#[path = "suite/reindexing.rs"]
mod reindexing;
#[path = "suite/reranking.rs"]
mod reranking;
#[path = "suite/router.rs"]
mod router;
#[path = "suite/sharing.rs"]
mod sharing;
#[path = "suite/upgrade.rs"]
mod upgrade;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use proto::retriever::filter::Kind as FilterKind;
use proto::retriever::retriever_service_client::RetrieverServiceClient;
use proto::retriever::value::Kind as ValueKind;
use proto::retriever::{
    AddToJobRequest, Condition, CreateCollectionRequest, CreateJobRequest, DeleteCollectionRequest,
    DeleteDocumentRequest, Filter, GetDocumentRequest, GetJobRequest, Hit, Job,
    ListCollectionsRequest, ListDocumentsRequest, Operator, PutDocumentRequest, RetryJobRequest,
    SearchRequest, SearchResponse, Task, TaskState, Value, Values,
};
use retriever::{Config, Embedding, Peers, Qdrant};
use runtime::context::request;
use runtime::transport::{Peer, in_process};
use tempfile::TempDir;
use types::{CallContext, ErrorKind, TenantId, UserId};

/// Has a test run over each database: its documents lie where [`config`] says for the directory that it is given.
macro_rules! over_each {
    ($name:ident) => {
        over_each!($name, flavor = "current_thread");
    };
    ($name:ident, $($how:tt)*) => {
        mod $name {
            #[tokio::test($($how)*)]
            async fn in_sqlite() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(directory.path()).await;
            }

            #[tokio::test($($how)*)]
            async fn in_postgresql() {
                let (_server, directory) = crate::in_postgresql();
                super::$name(directory.path()).await;
            }
        }
    };
}
pub(crate) use over_each;

/// The file in a directory that names the PostgreSQL database which is used instead of a file there.
const ADDRESS: &str = "postgresql";

/// Returns the defaults, with the documents of a directory.
fn config(directory: &Path) -> Config {
    match std::fs::read_to_string(directory.join(ADDRESS)) {
        Ok(address) => Config { database: address.into(), ..Config::default() },
        Err(_) => Config::at(&directory.join("documents.db")),
    }
}

/// Returns a directory whose documents lie in a database of their own, on one server for all tests that run at once.
fn in_postgresql() -> (Arc<testkit::Postgres>, TempDir) {
    static SERVER: Mutex<Weak<testkit::Postgres>> = Mutex::new(Weak::new());
    static DATABASES: AtomicUsize = AtomicUsize::new(0);
    let server = {
        let mut known = SERVER.lock().unwrap();
        let server =
            known.upgrade().unwrap_or_else(|| Arc::new(testkit::Postgres::start().unwrap()));
        *known = Arc::downgrade(&server);
        server
    };
    let name = format!("documents_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(ADDRESS), server.database(&name).unwrap()).unwrap();
    (server, directory)
}

struct Caller {
    client: RetrieverServiceClient<Peer>,
    context: CallContext,
}

/// Opens a retriever whose router nobody needs.
async fn serve(config: Config) -> anyhow::Result<Peer> {
    let peers = Peers::remote(&config.peers)?;
    Ok(in_process(retriever::server(config, peers).await?))
}

async fn open(directory: &Path) -> Peer {
    serve(config(directory)).await.unwrap()
}

impl Caller {
    fn again(&self) -> Self {
        Self { client: self.client.clone(), context: self.context.clone() }
    }

    fn new(peer: &Peer, tenant: &str) -> Self {
        let context = CallContext::new(TenantId::new(tenant).unwrap(), UserId::new("u").unwrap());
        Self { client: RetrieverServiceClient::new(peer.clone()), context }
    }

    async fn put(&mut self, source: &str, text: &[u8]) -> Result<(String, bool), tonic::Status> {
        let (source, content) = (source.to_owned(), text.to_vec().into());
        self.send(PutDocumentRequest { source, content, ..PutDocumentRequest::default() }).await
    }

    async fn send(&mut self, message: PutDocumentRequest) -> Result<(String, bool), tonic::Status> {
        let reply = self.client.put_document(request(&self.context, message)).await?.into_inner();
        Ok((reply.document.unwrap().id, reply.changed))
    }

    async fn search(&mut self, query: &str) -> Vec<Hit> {
        let message = SearchRequest { query: query.to_owned(), ..SearchRequest::default() };
        self.ask(message).await.unwrap().hits
    }

    async fn ask(&mut self, message: SearchRequest) -> Result<SearchResponse, tonic::Status> {
        Ok(self.client.search(request(&self.context, message)).await?.into_inner())
    }
}

over_each!(a_document_is_found_replaced_and_removed_also_after_a_restart);
async fn a_document_is_found_replaced_and_removed_also_after_a_restart(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    let text = "# Ümlaut\n\nAn umbrella.\n\n## Releases\n\nRun the rollback script.\n".as_bytes();
    let (id, changed) = caller.put("guide.md", text).await.unwrap();
    assert!(changed);
    assert_eq!(caller.put("guide.md", text).await.unwrap(), (id.clone(), false));

    drop(caller);
    let mut caller = Caller::new(&open(directory).await, "a");
    let passage = caller.search("rollback").await[0].passage.clone().unwrap();
    assert_eq!(passage.headings, ["Ümlaut", "Releases"]);
    assert_eq!((passage.start_line, passage.end_line), (5, 7));
    let text: Vec<char> = std::str::from_utf8(text).unwrap().chars().collect();
    let range = usize::try_from(passage.start).unwrap()..usize::try_from(passage.end).unwrap();
    assert_eq!(text[range].iter().collect::<String>(), passage.text);

    assert!(caller.put("guide.md", b"Something else.").await.unwrap().1);
    assert!(caller.search("rollback").await.is_empty());
    assert_eq!(caller.search("something else").await.len(), 1);
    let message = DeleteDocumentRequest { id, ..DeleteDocumentRequest::default() };
    caller.client.delete_document(request(&caller.context, message.clone())).await.unwrap();
    assert!(caller.search("something else").await.is_empty());
    let again = caller.client.delete_document(request(&caller.context, message)).await;
    assert_eq!(runtime::error::kind_of(&again.unwrap_err()), ErrorKind::NotFound);
}

over_each!(a_tenant_finds_its_own_documents_alone);
async fn a_tenant_finds_its_own_documents_alone(directory: &Path) {
    let peer = open(directory).await;
    let (mut ours, mut theirs) = (Caller::new(&peer, "a"), Caller::new(&peer, "b"));
    ours.put("x.txt", b"a shared secret").await.unwrap();
    assert!(theirs.search("secret").await.is_empty());
    theirs.put("x.txt", b"another secret").await.unwrap();
    assert_eq!(ours.search("secret").await.len(), 1);
    assert_eq!(ours.search("secret").await[0].passage.as_ref().unwrap().text, "a shared secret");
}

over_each!(what_cannot_be_stored_or_asked_is_refused);
async fn what_cannot_be_stored_or_asked_is_refused(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    let long = "s".repeat(1025);
    for (source, content) in [("x.md", b"\xff".as_slice()), ("", b"x"), (&long, b"x")] {
        let refused = caller.put(source, content).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    }
    for (query, top_k) in [("", 1), (" ", 1), ("x", 101)] {
        let query = query.to_owned();
        let message = SearchRequest { query, top_k, ..SearchRequest::default() };
        let refused = caller.ask(message).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    }
}

fn attributes(some: &[(&str, ValueKind)]) -> HashMap<String, Values> {
    let values = |kind: &ValueKind| Values { values: vec![Value { kind: Some(kind.clone()) }] };
    some.iter().map(|(name, kind)| ((*name).to_owned(), values(kind))).collect()
}

fn is(field: &str, value: ValueKind) -> Option<Filter> {
    let (field, operator) = (field.to_owned(), Operator::In.into());
    let condition = Condition { field, operator, values: vec![Value { kind: Some(value) }] };
    Some(Filter { kind: Some(FilterKind::Condition(condition)) })
}

fn sources(found: &SearchResponse) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.passage.as_ref().unwrap().source.as_str()).collect()
}

over_each!(documents_are_filtered_by_their_attributes_also_after_a_restart);
async fn documents_are_filtered_by_their_attributes_also_after_a_restart(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    for (source, year) in [("old.txt", 1999.0), ("new.txt", 2024.0)] {
        let message = PutDocumentRequest {
            source: source.to_owned(),
            content: "the same words".into(),
            attributes: attributes(&[("year", ValueKind::Number(year))]),
            private: Some(source == "new.txt"),
            ..PutDocumentRequest::default()
        };
        assert!(caller.send(message.clone()).await.unwrap().1);
        assert!(!caller.send(message).await.unwrap().1, "the same again changes nothing");
    }
    let query = |filter| SearchRequest {
        query: "words".to_owned(),
        filter,
        facets: vec!["privacy".to_owned()],
        ..SearchRequest::default()
    };
    for _ in 0..2 {
        let found = caller.ask(query(is("year", ValueKind::Number(2024.0)))).await.unwrap();
        assert_eq!(sources(&found), ["new.txt"]);
        let passage = found.hits[0].passage.as_ref().unwrap();
        assert!(passage.private);
        assert_eq!(passage.attributes, attributes(&[("year", ValueKind::Number(2024.0))]));
        assert_eq!((found.facets[0].values.len(), found.facets[0].values[0].documents), (1, 1));
        let found = caller.ask(query(is("source", ValueKind::Text("old.txt".to_owned())))).await;
        assert_eq!(sources(&found.unwrap()), ["old.txt"]);
        drop(caller);
        caller = Caller::new(&open(directory).await, "a");
    }
    let unknown = caller.ask(query(is("yaer", ValueKind::Number(2024.0)))).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&unknown), ErrorKind::Invalid);
    assert!(unknown.message().contains("there are document_id, media_type"), "{unknown}");
    let other_kind = PutDocumentRequest {
        source: "x.txt".to_owned(),
        content: "x".into(),
        attributes: attributes(&[("year", ValueKind::Text("MMXXIV".to_owned()))]),
        ..PutDocumentRequest::default()
    };
    let refused = caller.send(other_kind).await.unwrap_err();
    assert!(refused.message().contains("a number in this collection"), "{refused}");
}

over_each!(collections_are_apart_and_end_whole);
async fn collections_are_apart_and_end_whole(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    let put = |collection: &str| PutDocumentRequest {
        source: "x.txt".to_owned(),
        content: format!("a secret of {collection}").into(),
        collection: collection.to_owned(),
        ..PutDocumentRequest::default()
    };
    let search = |collection: &str| SearchRequest {
        query: "secret".to_owned(),
        collection: collection.to_owned(),
        ..SearchRequest::default()
    };
    let missing = caller.send(put("second")).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&missing), ErrorKind::NotFound);
    let create =
        CreateCollectionRequest { name: "second".to_owned(), ..CreateCollectionRequest::default() };
    for created in [true, false] {
        let message = request(&caller.context, create.clone());
        let reply = caller.client.create_collection(message).await.unwrap().into_inner();
        assert_eq!(reply.created, created);
    }
    caller.send(put("second")).await.unwrap();
    caller.send(put("")).await.unwrap();
    for (collection, text) in [("", "a secret of "), ("second", "a secret of second")] {
        let found = caller.ask(search(collection)).await.unwrap();
        assert_eq!(found.hits.len(), 1);
        assert_eq!(found.hits[0].passage.as_ref().unwrap().text, text.trim_end());
    }
    let all = request(&caller.context, ListCollectionsRequest {});
    let all = caller.client.list_collections(all).await.unwrap().into_inner().collections;
    let shown: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.documents)).collect();
    assert_eq!(shown, [("default", 1), ("second", 1)]);
    let delete = DeleteCollectionRequest { name: "second".to_owned() };
    caller.client.delete_collection(request(&caller.context, delete)).await.unwrap();
    drop(caller);
    let mut caller = Caller::new(&open(directory).await, "a");
    let gone = caller.ask(search("second")).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&gone), ErrorKind::NotFound);
    assert_eq!(caller.ask(search("")).await.unwrap().hits.len(), 1);
}

#[tokio::test]
async fn one_per_document_is_the_best_passage_of_each() {
    let directory = tempfile::tempdir().unwrap();
    let mut caller = Caller::new(&open(directory.path()).await, "a");
    caller.put("a.md", b"# One\n\nwords\n\n# Two\n\nwords words\n").await.unwrap();
    caller.put("b.md", b"words in another document").await.unwrap();
    let query = |one_per_document| SearchRequest {
        query: "words".to_owned(),
        one_per_document,
        ..SearchRequest::default()
    };
    assert_eq!(sources(&caller.ask(query(false)).await.unwrap()).len(), 3);
    let found = caller.ask(query(true)).await.unwrap();
    let mut documents = sources(&found);
    documents.sort_unstable();
    assert_eq!(documents, ["a.md", "b.md"]);
    for hit in &found.hits {
        let why = hit.explanation.as_ref().unwrap();
        assert!((why.fused + why.document - hit.score).abs() < 1e-6 && why.dense.is_none());
        assert!(why.keyword > 0.0);
    }
}

/// Opens the retriever with a model of the test's own making: small, and of other weights for another `seed`.
async fn with_model(directory: &Path, seed: u8) -> anyhow::Result<Peer> {
    let embedding = Some(Embedding {
        model: Some(tiny_model(directory, seed)),
        threads: 1,
        ..Embedding::default()
    });
    serve(Config { embedding, ..config(directory) }).await
}

over_each!(vectors_find_what_words_do_not_and_two_models_are_never_mixed);
async fn vectors_find_what_words_do_not_and_two_models_are_never_mixed(directory: &Path) {
    let mut caller = Caller::new(&with_model(directory, 1).await.unwrap(), "a");
    caller.put("a.txt", b"apple pear").await.unwrap();
    caller.put("b.txt", b"plum fig").await.unwrap();
    for _ in 0..2 {
        // No word of it is in a document: all that is found is found by vectors.
        let found = caller.search("kiwi").await;
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|hit| hit.explanation.as_ref().unwrap().dense.is_some()));
        let found = caller.search("apple pear").await;
        assert_eq!(found[0].passage.as_ref().unwrap().source, "a.txt");
        // The vectors are in the database: after a restart they are there again.
        drop(caller);
        caller = Caller::new(&with_model(directory, 1).await.unwrap(), "a");
    }
    let all = request(&caller.context, ListCollectionsRequest {});
    let all = caller.client.list_collections(all).await.unwrap().into_inner().collections;
    assert_eq!((all[0].dimension, all[0].model.len()), (8, 64));

    drop(caller);
    let mut caller = Caller::new(&with_model(directory, 2).await.unwrap(), "a");
    let refused = caller.put("c.txt", b"kiwi").await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict);
    let query = SearchRequest { query: "apple".to_owned(), ..SearchRequest::default() };
    let refused = caller.ask(query.clone()).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict);
    assert!(refused.message().contains(&all[0].model[..12]), "{refused}");
    drop(caller);
    let mut caller = Caller::new(&open(directory).await, "a");
    let refused = caller.ask(query).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict);
    // Emptied, it takes the model that is configured.
    let delete = DeleteCollectionRequest { name: "default".to_owned() };
    caller.client.delete_collection(request(&caller.context, delete)).await.unwrap();
    caller.put("c.txt", b"kiwi").await.unwrap();
    assert_eq!(caller.search("kiwi").await.len(), 1);
}

over_each!(a_collection_without_vectors_is_found_by_words_when_a_model_comes);
async fn a_collection_without_vectors_is_found_by_words_when_a_model_comes(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    caller.put("a.txt", b"apple pear").await.unwrap();
    drop(caller);
    let mut caller = Caller::new(&with_model(directory, 1).await.unwrap(), "a");
    caller.put("b.txt", b"apple").await.unwrap();
    let found = caller.search("apple").await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|hit| hit.explanation.as_ref().unwrap().dense.is_none()));
}

#[tokio::test]
async fn a_model_that_lacks_files_keeps_the_retriever_from_starting_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny_model(directory.path(), 1);
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    let embedding = Some(Embedding { model: Some(model), threads: 1, ..Embedding::default() });
    let config = Config { embedding, ..config(directory.path()) };
    let fault = serve(config).await.err().unwrap().to_string();
    assert!(fault.contains("has no tokenizer.json"), "{fault}");
}

/// Makes a model that knows five fruits, if it is not there.
fn tiny_model(directory: &Path, seed: u8) -> PathBuf {
    let place = directory.join(format!("model-{seed}"));
    if !place.exists() {
        let words = ["apple", "pear", "plum", "fig", "kiwi"];
        testkit::model::write(&place, &words, 8, seed.into()).unwrap();
    }
    place
}

/// Waits until a job has nothing to do.
async fn ended(caller: &mut Caller, job: &str) -> (Job, Vec<Task>) {
    let wait = async {
        loop {
            let message = GetJobRequest { job: job.to_owned(), ..GetJobRequest::default() };
            let message = request(&caller.context, message);
            let reply = caller.client.get_job(message).await.unwrap().into_inner();
            let job = reply.job.unwrap();
            if job.queued + job.running == 0 {
                return (job, reply.tasks);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap()
}

async fn begin(caller: &mut Caller) -> String {
    let message = request(&caller.context, CreateJobRequest::default());
    caller.client.create_job(message).await.unwrap().into_inner().job.unwrap().id
}

async fn add(caller: &mut Caller, job: &str, source: &str, text: &[u8]) -> tonic::Result<()> {
    let (source, content) = (source.to_owned(), text.to_vec().into());
    let document = Some(PutDocumentRequest { source, content, ..PutDocumentRequest::default() });
    let message = AddToJobRequest { job: job.to_owned(), document };
    caller.client.add_to_job(request(&caller.context, message)).await.map(|_| ())
}

over_each!(a_job_stores_what_can_be_stored_and_tells_why_the_rest_was_not);
async fn a_job_stores_what_can_be_stored_and_tells_why_the_rest_was_not(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "good.md", b"# Good\n\nwords").await.unwrap();
    add(&mut caller, &job, "bad.md", b"\xff").await.unwrap();
    let (counts, tasks) = ended(&mut caller, &job).await;
    assert_eq!((counts.done, counts.failed), (1, 1));
    let shown: Vec<_> = tasks.iter().map(|task| (task.source.as_str(), task.state())).collect();
    assert_eq!(shown, [("bad.md", TaskState::Failed), ("good.md", TaskState::Done)]);
    assert!(tasks[0].reason.contains("byte 0 is not UTF-8"), "{}", tasks[0].reason);
    assert_eq!(
        caller.search("words").await[0].passage.as_ref().unwrap().document_id,
        tasks[1].document_id
    );

    let retry = RetryJobRequest { job: job.clone() };
    let retried = caller.client.retry_job(request(&caller.context, retry)).await.unwrap();
    assert_eq!(retried.into_inner().queued, 1);
    let (counts, tasks) = ended(&mut caller, &job).await;
    assert_eq!((counts.done, counts.failed, tasks[0].attempts), (1, 1, 1));
    // Sent once more, and right this time.
    add(&mut caller, &job, "bad.md", b"better words").await.unwrap();
    let (counts, _) = ended(&mut caller, &job).await;
    assert_eq!((counts.done, counts.failed), (2, 0));
    assert_eq!(caller.search("better").await.len(), 1);

    let context = CallContext::new(TenantId::new("b").unwrap(), UserId::new("u").unwrap());
    let mut other = Caller { context, client: caller.client.clone() };
    let refused = add(&mut other, &job, "x.md", b"x").await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::NotFound);
    let refused = add(&mut caller, &job, "", b"x").await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
}

over_each!(
    silence_never_makes_a_private_document_public,
    flavor = "multi_thread",
    worker_threads = 4
);
/// Whoever comes first: who says nothing of privacy does not undo that another made the document private.
async fn silence_never_makes_a_private_document_public(directory: &Path) {
    let caller = Caller::new(&open(directory).await, "a");
    for round in 0..50 {
        let put = |private, text: &'static str| {
            let mut caller =
                Caller { client: caller.client.clone(), context: caller.context.clone() };
            let message = PutDocumentRequest {
                source: format!("{round}.txt"),
                content: text.into(),
                private,
                ..PutDocumentRequest::default()
            };
            tokio::spawn(async move { caller.send(message).await.unwrap().0 })
        };
        let (silent, private) = (put(None, "words of one"), put(Some(true), "words of another"));
        let id = silent.await.unwrap();
        assert_eq!(private.await.unwrap(), id);
        let message = GetDocumentRequest { id, ..GetDocumentRequest::default() };
        let message = request(&caller.context, message);
        let there = caller.client.clone().get_document(message).await.unwrap().into_inner();
        assert!(there.document.unwrap().private, "round {round}");
    }
}

over_each!(a_caller_that_hangs_up_leaves_no_document_that_is_not_found);
/// Whenever a caller hangs up: a document is there and found, or neither.
async fn a_caller_that_hangs_up_leaves_no_document_that_is_not_found(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    for number in 0..200 {
        let mut hasty = Caller { client: caller.client.clone(), context: caller.context.clone() };
        let put = tokio::spawn(async move {
            hasty.put(&format!("{number}.txt"), format!("word{number}").as_bytes()).await
        });
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        put.abort();
    }
    caller.put("last.txt", b"last").await.unwrap();
    let agree = async {
        loop {
            let message =
                ListDocumentsRequest { page_size: 1000, ..ListDocumentsRequest::default() };
            let message = request(&caller.context, message);
            let listed =
                caller.client.list_documents(message).await.unwrap().into_inner().documents;
            let mut found = 0;
            for document in &listed {
                let word = document.source.replace(".txt", "").replace("last", "");
                let query = if word.is_empty() { "last".to_owned() } else { format!("word{word}") };
                let hits = caller.search(&query).await;
                found += usize::from(
                    hits.iter().any(|hit| hit.passage.as_ref().unwrap().document_id == document.id),
                );
            }
            if found == listed.len() {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), agree).await.unwrap();
    assert!(found > 1, "none was put: {found}");
}

over_each!(without_its_qdrant_a_search_fails_clearly_and_what_was_missed_is_told_later);
/// The index is gone, comes back empty, and is filled again; nothing of it is lost, and nothing hangs.
async fn without_its_qdrant_a_search_fails_clearly_and_what_was_missed_is_told_later(
    directory: &Path,
) {
    let server = testkit::Qdrant::stand_in("127.0.0.1:0").await.unwrap();
    let address = server.url.trim_start_matches("http://").to_owned();
    let open = async || {
        let qdrant = Some(Qdrant { url: format!("http://{address}"), api_key: None });
        let config = Config { qdrant, ..config(directory) };
        Caller::new(&serve(config).await.unwrap(), "a")
    };
    let mut caller = open().await;
    caller.put("a.txt", b"apple words").await.unwrap();
    let (gone, _) = caller.put("b.txt", b"pear words").await.unwrap();
    assert_eq!(caller.search("words").await.len(), 2);
    server.kill().await.unwrap();
    let query = || SearchRequest { query: "words".to_owned(), ..SearchRequest::default() };
    let fault = caller.ask(query()).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&fault), ErrorKind::Unavailable);
    // What the rows have, the index hears of later.
    caller.put("c.txt", b"fig words").await.unwrap();
    let delete = DeleteDocumentRequest { id: gone, ..DeleteDocumentRequest::default() };
    caller.client.delete_document(request(&caller.context, delete)).await.unwrap();
    let _server = testkit::Qdrant::stand_in(&address).await.unwrap();
    // It has lost everything: at its start the retriever compares, and tells all of it.
    let mut caller = open().await;
    let told = async {
        loop {
            if let Ok(found) = caller.ask(query()).await
                && found.hits.len() == 2
            {
                break sources(&found).into_iter().map(str::to_owned).collect::<Vec<_>>();
            }
            tokio::task::yield_now().await;
        }
    };
    let mut found = tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    found.sort();
    assert_eq!(found, ["a.txt", "c.txt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_tenant_finds_anothers_passages_in_ten_thousand_searches() {
    let directory = tempfile::tempdir().unwrap();
    twenty_tenants(with_model(directory.path(), 1).await.unwrap(), 500).await;
}

/// The same in Qdrant; fewer times, because its stand-in is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_tenant_finds_anothers_passages_in_qdrant() {
    let directory = tempfile::tempdir().unwrap();
    let server = testkit::Qdrant::start().await.unwrap();
    let qdrant = Some(Qdrant { url: server.url.clone(), api_key: None });
    let embedding = Some(Embedding {
        model: Some(tiny_model(directory.path(), 1)),
        threads: 1,
        ..Embedding::default()
    });
    let config = Config { embedding, qdrant, ..config(directory.path()) };
    let rounds = if std::env::var_os("BATON_TEST_QDRANT").is_some() { 500 } else { 10 };
    twenty_tenants(serve(config).await.unwrap(), rounds).await;
}

/// Twenty tenants put, replace, remove and search the same texts at the same time; each finds its own alone.
async fn twenty_tenants(peer: Peer, rounds: usize) {
    let work = async |number: usize| {
        let tenant = format!("tenant{number}");
        let mut caller = Caller::new(&peer, &tenant);
        let mut found = 0;
        for round in 0..rounds {
            if round % 25 == 0 {
                let source = format!("{}.md", round / 25 % 10);
                let text = format!("# Apple pear plum\n\nfig kiwi of {tenant} in round {round}");
                let (id, _) = caller.put(&source, text.as_bytes()).await.unwrap();
                if round % 100 == 50 {
                    let message = DeleteDocumentRequest { id, ..DeleteDocumentRequest::default() };
                    let message = request(&caller.context, message);
                    caller.client.delete_document(message).await.unwrap();
                }
            }
            let query = ["apple", "kiwi", "pear fig", "unheard of", "plum tenant3"][round % 5];
            for hit in caller.search(query).await {
                let text = hit.passage.unwrap().text;
                assert!(text.contains(&format!("of {tenant} in")), "{tenant} finds {text:?}");
                found += 1;
            }
        }
        assert!(found >= rounds, "{found} passages found");
    };
    futures::future::join_all((0..20).map(work)).await;
}
