//! Several retrievers on one PostgreSQL.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::retriever::{
    CreateCollectionRequest, CreateJobRequest, DeleteCollectionRequest, DeleteDocumentRequest,
    DeleteJobRequest, Document, GetDocumentRequest, GetJobRequest, Job, ListDocumentsRequest,
    PutDocumentRequest, SearchRequest, Task,
};
use retriever::{Config, Qdrant};
use runtime::transport::Peer;
use sqlx::{Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use testkit::process::Process;
use types::ErrorKind;

use super::{ADDRESS, AddToJobRequest, Caller, add, begin, config, in_postgresql, request, serve};

/// One PostgreSQL and one Qdrant.
struct Shared {
    _server: Arc<testkit::Postgres>,
    directory: TempDir,
    qdrant: testkit::Qdrant,
}

impl Shared {
    async fn start() -> Self {
        let (_server, directory) = in_postgresql();
        let qdrant = testkit::Qdrant::stand_in("127.0.0.1:0").await.unwrap();
        Self { _server, directory, qdrant }
    }

    fn config(&self) -> Config {
        let qdrant = Some(Qdrant { url: self.qdrant.url.clone(), api_key: None });
        Config { qdrant, ..config(self.directory.path()) }
    }

    /// Opens two retrievers.
    async fn two(&self) -> [Peer; 2] {
        [serve(self.config()).await.unwrap(), serve(self.config()).await.unwrap()]
    }

    async fn sql(&self) -> PgConnection {
        PgConnection::connect(&address(self.directory.path())).await.unwrap()
    }
}

fn address(directory: &Path) -> String {
    std::fs::read_to_string(directory.join(ADDRESS)).unwrap()
}

fn kind<T: std::fmt::Debug>(reply: tonic::Result<T>) -> ErrorKind {
    runtime::error::kind_of(&reply.unwrap_err())
}

async fn number(db: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query(query).fetch_one(db).await.unwrap().get(0)
}

async fn job(caller: &mut Caller, job: &str) -> (Job, Vec<Task>) {
    let message =
        GetJobRequest { job: job.to_owned(), page_size: 1000, ..GetJobRequest::default() };
    let reply = caller.client.get_job(request(&caller.context, message)).await.unwrap();
    let reply = reply.into_inner();
    (reply.job.unwrap(), reply.tasks)
}

/// Asks for a job until it is as `wanted` says.
async fn seen(caller: &mut Caller, id: &str, wanted: impl Fn(&Job) -> bool) -> Vec<Task> {
    let wait = async {
        loop {
            let (is, tasks) = job(caller, id).await;
            if wanted(&is) {
                return tasks;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap()
}

async fn documents(caller: &mut Caller) -> Vec<Document> {
    let message = ListDocumentsRequest { page_size: 1000, ..ListDocumentsRequest::default() };
    let reply = caller.client.list_documents(request(&caller.context, message)).await.unwrap();
    reply.into_inner().documents
}

#[tokio::test]
async fn two_retrievers_do_one_job_together_and_each_document_once() {
    let shared = Shared::start().await;
    let [one, other] = shared.two().await;
    let (mut one, mut other) = (Caller::new(&one, "a"), Caller::new(&other, "a"));
    let id = begin(&mut one).await;
    for number in 0..200 {
        let by = if number % 2 == 0 { &mut one } else { &mut other };
        let text = format!("common word{number}");
        add(by, &id, &format!("{number}.txt"), text.as_bytes()).await.unwrap();
    }
    let tasks = seen(&mut one, &id, |job| job.queued + job.running == 0).await;
    assert_eq!(tasks.len(), 200);
    assert!(tasks.iter().all(|task| task.attempts == 1 && !task.document_id.is_empty()));
    assert_eq!(documents(&mut other).await.len(), 200);
    for number in 0..200 {
        let by = if number % 2 == 0 { &mut other } else { &mut one };
        let hits = by.search(&format!("word{number}")).await;
        assert_eq!(hits.len(), 1, "word{number}");
    }
    let mut db = shared.sql().await;
    assert_eq!(number(&mut db, "SELECT tasks + bytes FROM waiting").await, 0);
    assert_eq!(number(&mut db, "SELECT COUNT(*) FROM unindexed").await, 0);
}

#[tokio::test]
async fn what_a_killed_retriever_worked_on_another_does_when_the_lease_has_ended() {
    let shared = Shared::start().await;
    let killed = Process::service("retriever", |command| {
        command
            .env("BATON_RETRIEVER__DATABASE", address(shared.directory.path()))
            .env("BATON_RETRIEVER__QDRANT__URL", &shared.qdrant.url);
    });
    let killed = killed.await.unwrap();
    let mut caller = Caller::new(&runtime::transport::remote(&killed.url).unwrap(), "a");
    let id = begin(&mut caller).await;
    for number in 0..200 {
        let text = format!("common word{number}");
        add(&mut caller, &id, &format!("{number}.txt"), text.as_bytes()).await.unwrap();
    }
    seen(&mut caller, &id, |job| job.done >= 20).await;
    killed.kill().await.unwrap();
    let mut db = shared.sql().await;
    // What it had begun to commit the server still ends.
    let gone = async {
        let sessions = "SELECT COUNT(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name = 'baton-retriever'";
        while number(&mut db, sessions).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    let running = "SELECT COUNT(*) FROM tasks WHERE state = 'running'";
    let cut_off = usize::try_from(number(&mut db, running).await).unwrap();

    let mut caller = Caller::new(&serve(shared.config()).await.unwrap(), "a");
    let tasks = seen(&mut caller, &id, |job| job.queued + job.running == 0).await;
    assert!(tasks.iter().all(|task| !task.document_id.is_empty()), "{tasks:?}");
    let attempts: Vec<u32> = tasks.iter().map(|task| task.attempts).collect();
    let begun = |times| attempts.iter().filter(|attempts| **attempts == times).count();
    assert_eq!((begun(1), begun(2)), (200 - cut_off, cut_off), "{attempts:?}");
    assert_eq!(documents(&mut caller).await.len(), 200);
    for number in 0..200 {
        assert_eq!(caller.search(&format!("word{number}")).await.len(), 1, "word{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_writes_last_rows_and_index_are_one() {
    const SOURCES: usize = 5;
    let shared = Shared::start().await;
    let peers = shared.two().await;
    let work = (0..6).map(|writer| {
        let mut caller = Caller::new(&peers[writer % 2], "a");
        tokio::spawn(async move {
            for round in 0..15 {
                let source = format!("{}.txt", (writer + round) % SOURCES);
                let text = format!("common word{writer}x{round}");
                let (id, _) = caller.put(&source, text.as_bytes()).await.unwrap();
                if round % 3 == 0 {
                    let message = DeleteDocumentRequest { id, ..DeleteDocumentRequest::default() };
                    let message = request(&caller.context, message);
                    if let Err(fault) = caller.client.delete_document(message).await {
                        // Another was faster.
                        assert_eq!(kind::<()>(Err(fault)), ErrorKind::NotFound);
                    }
                }
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    let mut caller = Caller::new(&peers[0], "a");
    let there = documents(&mut caller).await;
    let mut texts = BTreeSet::new();
    for document in &there {
        let message =
            GetDocumentRequest { id: document.id.clone(), ..GetDocumentRequest::default() };
        let reply = caller.client.get_document(request(&caller.context, message)).await.unwrap();
        texts.insert(reply.into_inner().text);
    }
    assert_eq!(texts.len(), there.len());
    let found = caller.search("common").await;
    let found: BTreeSet<_> = found.into_iter().map(|hit| hit.passage.unwrap().text).collect();
    assert_eq!(found, texts);
    for (writer, round) in (0..6).flat_map(|writer| (0..15).map(move |round| (writer, round))) {
        let word = format!("word{writer}x{round}");
        let found = caller.search(&word).await.len();
        assert_eq!(found, usize::from(texts.contains(&format!("common {word}"))), "{word}");
    }
    let mut db = shared.sql().await;
    assert_eq!(number(&mut db, "SELECT COUNT(*) FROM unindexed").await, 0);
}

/// Collections and jobs end while documents are added to them and worked on, everywhere at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_ends_while_it_is_worked_on_leaves_nothing_and_stops_nobody() {
    let shared = Shared::start().await;
    let peers = shared.two().await;
    let gone = |reply: tonic::Result<()>| match reply {
        Ok(()) => {}
        Err(fault) => {
            let kind = runtime::error::kind_of(&fault);
            assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::Conflict), "{fault}");
        }
    };
    let work = (0..6).map(|worker| {
        let (mut caller, mut other) =
            (Caller::new(&peers[worker % 2], "a"), Caller::new(&peers[(worker + 1) % 2], "a"));
        tokio::spawn(async move {
            for round in 0..6 {
                let name = format!("c{}", worker % 3);
                let message = CreateCollectionRequest {
                    name: name.clone(),
                    ..CreateCollectionRequest::default()
                };
                let message = request(&caller.context, message);
                // It may be gone again before it is told of.
                gone(caller.client.create_collection(message).await.map(drop));
                let message =
                    CreateJobRequest { collection: name.clone(), ..CreateJobRequest::default() };
                let made = caller.client.create_job(request(&caller.context, message)).await;
                let Ok(made) = made.map_err(|fault| gone(Err(fault))) else { continue };
                let job = made.into_inner().job.unwrap().id;
                for number in 0..8 {
                    let (source, content) = (format!("{number}.txt"), "words of it".into());
                    let collection = String::new();
                    let document = PutDocumentRequest {
                        source,
                        content,
                        collection,
                        ..PutDocumentRequest::default()
                    };
                    let message = AddToJobRequest { job: job.clone(), document: Some(document) };
                    let added = other.client.add_to_job(request(&other.context, message)).await;
                    gone(added.map(drop));
                }
                if (worker + round) % 2 == 0 {
                    let message = DeleteJobRequest { job };
                    let ended = caller.client.delete_job(request(&caller.context, message)).await;
                    gone(ended.map(drop));
                } else {
                    let message = DeleteCollectionRequest { name };
                    let message = request(&other.context, message);
                    gone(other.client.delete_collection(message).await.map(drop));
                }
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    let mut caller = Caller::new(&peers[0], "a");
    for number in 0..3 {
        let message = DeleteCollectionRequest { name: format!("c{number}") };
        let ended = caller.client.delete_collection(request(&caller.context, message)).await;
        gone(ended.map(drop));
    }
    let mut db = shared.sql().await;
    for (what, count) in [
        ("documents", "SELECT COUNT(*) FROM documents"),
        ("passages", "SELECT COUNT(*) FROM passages"),
        ("jobs", "SELECT COUNT(*) FROM jobs"),
        ("tasks", "SELECT COUNT(*) FROM tasks"),
        ("waiting", "SELECT CAST(COALESCE(SUM(tasks + bytes), 0) AS BIGINT) FROM waiting"),
        ("unindexed", "SELECT COUNT(*) FROM unindexed"),
    ] {
        assert_eq!(number(&mut db, count).await, 0, "{what}");
    }
}

#[tokio::test]
async fn of_many_who_make_a_collection_one_has_made_it() {
    let shared = Shared::start().await;
    let peers = shared.two().await;
    let made = (0..16).map(|number: usize| {
        let mut caller = Caller::new(&peers[number % 2], "a");
        async move {
            let message = CreateCollectionRequest {
                name: "c".to_owned(),
                ..CreateCollectionRequest::default()
            };
            let message = request(&caller.context, message);
            caller.client.create_collection(message).await.unwrap().into_inner().created
        }
    });
    let made = futures::future::join_all(made).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
}

#[tokio::test]
async fn a_collection_that_another_made_anew_is_found_as_it_is() {
    let shared = Shared::start().await;
    let [one, other] = shared.two().await;
    let (mut one, mut other) = (Caller::new(&one, "a"), Caller::new(&other, "a"));
    one.put("a.txt", b"common apple").await.unwrap();
    assert_eq!(other.search("common").await.len(), 1);
    let message = DeleteCollectionRequest { name: "default".to_owned() };
    one.client.delete_collection(request(&one.context, message)).await.unwrap();
    assert!(other.search("common").await.is_empty());
    one.put("b.txt", b"common pear").await.unwrap();
    other.put("c.txt", b"common fig").await.unwrap();
    for caller in [&mut one, &mut other] {
        let facets = vec!["source".to_owned()];
        let query = "common".to_owned();
        let found = caller.ask(SearchRequest { query, facets, ..SearchRequest::default() }).await;
        let found = found.unwrap();
        assert_eq!((found.hits.len(), found.facets[0].values.len()), (2, 2));
    }
}

#[tokio::test]
async fn an_index_in_memory_has_its_database_alone_and_says_what_to_do() {
    let shared = Shared::start().await;
    let alone = serve(config(shared.directory.path())).await.unwrap();
    for second in [config(shared.directory.path()), shared.config()] {
        let fault = format!("{:#}", serve(second).await.err().unwrap());
        assert!(fault.contains("configure retriever.qdrant"), "{fault}");
    }
    drop(alone);
    let _two = shared.two().await;
    let fault = format!("{:#}", serve(config(shared.directory.path())).await.err().unwrap());
    assert!(fault.contains("configure retriever.qdrant"), "{fault}");
}

#[tokio::test]
async fn a_database_that_another_took_is_used_no_more() {
    let (_server, directory) = in_postgresql();
    let mut caller = Caller::new(&serve(config(directory.path())).await.unwrap(), "a");
    caller.put("a.txt", b"apple").await.unwrap();
    let mut db = PgConnection::connect(&address(directory.path())).await.unwrap();
    let end = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
               AND l.pid <> pg_backend_pid()";
    let take = "SELECT pg_try_advisory_lock(hashtextextended('retriever presence', 0))";
    loop {
        sqlx::query(end).execute(&mut db).await.unwrap();
        if sqlx::query(take).fetch_one(&mut db).await.unwrap().get(0) {
            break;
        }
    }
    let refused = async {
        loop {
            match caller.put("a.txt", b"pear").await {
                Err(fault) if fault.message().contains("has taken") => return fault,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_database_that_is_away_is_waited_for_at_the_start_and_told_of_later() {
    let mut server = testkit::Postgres::start().unwrap();
    server.stop().unwrap();
    let config = Config { database: server.url().into(), acquire_ms: 500, ..Config::default() };
    let restart = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    });
    let (opened, server) = tokio::join!(serve(config), restart);
    let mut server = server.unwrap();
    let mut caller = Caller::new(&opened.unwrap(), "a");
    caller.put("a.txt", b"apple").await.unwrap();
    server.stop().unwrap();
    assert_eq!(kind(caller.put("b.txt", b"pear").await), ErrorKind::Unavailable);
    let query = SearchRequest { query: "apple".to_owned(), ..SearchRequest::default() };
    assert_eq!(kind(caller.ask(query).await), ErrorKind::Unavailable);
    let _server = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    let again = async {
        while let Err(fault) = caller.put("b.txt", b"pear").await {
            assert_eq!(kind::<()>(Err(fault)), ErrorKind::Unavailable);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
    assert_eq!(caller.search("pear").await.len(), 1);
}

#[tokio::test]
async fn a_frozen_database_is_not_waited_for_for_ever() {
    let server = testkit::Postgres::start().unwrap();
    let database = server.url().into();
    let config = Config { database, acquire_ms: 500, ..Config::default() };
    let mut caller = Caller::new(&serve(config).await.unwrap(), "a");
    server.freeze().unwrap();
    let put = tokio::time::timeout(Duration::from_secs(60), caller.put("a.txt", b"apple")).await;
    assert_eq!(kind(put.unwrap()), ErrorKind::Unavailable);
    server.thaw().unwrap();
    let again = async {
        while let Err(fault) = caller.put("a.txt", b"apple").await {
            assert_eq!(kind::<()>(Err(fault)), ErrorKind::Unavailable);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
    assert_eq!(caller.search("apple").await.len(), 1);
}

#[tokio::test]
async fn a_nul_in_what_is_asked_for_is_the_askers_fault() {
    let (_server, directory) = in_postgresql();
    let mut caller = Caller::new(&serve(config(directory.path())).await.unwrap(), "a");
    let message = GetDocumentRequest { id: "\0".to_owned(), ..GetDocumentRequest::default() };
    let reply = caller.client.get_document(request(&caller.context, message)).await;
    assert_eq!(kind(reply), ErrorKind::Invalid);
}
