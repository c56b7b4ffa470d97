//! What is in a collection and what is on its way there, as one list.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proto::retriever::{
    AddToJobRequest, ChangeCollectionRequest, ChangeEntryRequest, Collection,
    CreateCollectionRequest, CreateJobRequest, DeleteEntryRequest, Entry, GetCollectionRequest,
    Hit, ListEntriesRequest, Metadata, Passage, PutDocumentRequest, SearchRequest, TaskState,
    Values,
};
use proto::router::router_service_server::RouterServiceServer;
use retriever::{Config, Embedding, Fetch, Peers, Qdrant};
use runtime::transport::in_process;
use testkit::web::Web;
use types::{ErrorKind, Privacy, TenantId};

use super::router::Asked;
use super::{
    Caller, ValueKind, add, attributes, begin, config, ended, is, over_each, request, serve,
    tiny_model,
};

async fn list(caller: &mut Caller, message: ListEntriesRequest) -> (Vec<Entry>, bool) {
    let reply = caller.client.list_entries(request(&caller.context, message)).await.unwrap();
    let reply = reply.into_inner();
    (reply.entries, reply.has_more)
}

fn shown(entries: &[Entry]) -> Vec<(&str, TaskState)> {
    entries.iter().map(|entry| (entry.source.as_str(), entry.state())).collect()
}

/// Checks that pages of any length have all of a job, or of the collection without one, in both orders.
async fn listed_in_pages(caller: &mut Caller, job: &str, all: &[(&str, TaskState)]) {
    for backwards in [false, true] {
        for limit in 1..=5 {
            let (mut listed, mut after) = (Vec::new(), String::new());
            loop {
                let job = job.to_owned();
                let message = ListEntriesRequest {
                    after,
                    backwards,
                    limit,
                    job,
                    ..ListEntriesRequest::default()
                };
                let (entries, has_more) = list(caller, message).await;
                let read = listed.len() + entries.len();
                assert_eq!(has_more, read < all.len(), "{limit} {backwards}");
                listed.extend(entries);
                if !has_more {
                    break;
                }
                after = listed.last().unwrap().source.clone();
            }
            let mut wanted = all.to_vec();
            if backwards {
                wanted.reverse();
            }
            assert_eq!(shown(&listed), wanted);
        }
    }
}

async fn collection(caller: &mut Caller) -> Collection {
    let message = GetCollectionRequest { name: "default".to_owned() };
    let reply = caller.client.get_collection(request(&caller.context, message)).await.unwrap();
    reply.into_inner().collection.unwrap()
}

async fn change(
    caller: &mut Caller,
    source: &str,
    attributes: HashMap<String, Values>,
) -> tonic::Result<()> {
    let source = source.to_owned();
    let message = ChangeEntryRequest { source, attributes, ..ChangeEntryRequest::default() };
    caller.client.change_entry(request(&caller.context, message)).await.map(|_| ())
}

fn of_year(year: f64) -> HashMap<String, Values> {
    attributes(&[("year", ValueKind::Number(year))])
}

/// Returns what is found that has a value, by source.
async fn found(caller: &mut Caller, field: &str, value: ValueKind) -> Vec<Hit> {
    let query = "apple fig words".to_owned();
    let message = SearchRequest { query, filter: is(field, value), ..SearchRequest::default() };
    let mut hits = caller.ask(message).await.unwrap().hits;
    hits.sort_by_key(|hit| hit.passage.as_ref().unwrap().source.clone());
    hits
}

/// Returns the passages that fit, by source: each without what it is filtered by, and its scores.
async fn scored(caller: &mut Caller) -> Vec<(Passage, [f64; 2])> {
    let mut hits = caller.search("apple fig").await;
    hits.sort_by_key(|hit| hit.passage.as_ref().unwrap().source.clone());
    let scored = hits.into_iter().map(|hit| {
        let passage = Passage { attributes: HashMap::new(), ..hit.passage.unwrap() };
        (passage, [hit.score, hit.explanation.unwrap().dense.unwrap()])
    });
    scored.collect()
}

async fn found_of_year(caller: &mut Caller, year: f64) -> Vec<String> {
    let hits = found(caller, "year", ValueKind::Number(year)).await;
    let passages = hits.into_iter().map(|hit| hit.passage.unwrap());
    let source = |passage: Passage| {
        assert_eq!(passage.attributes, of_year(year));
        passage.source
    };
    passages.map(source).collect()
}

async fn delete(caller: &mut Caller, source: &str) -> tonic::Result<()> {
    let message = DeleteEntryRequest { source: source.to_owned(), ..DeleteEntryRequest::default() };
    caller.client.delete_entry(request(&caller.context, message)).await.map(|_| ())
}

over_each!(entries_are_what_waits_what_is_stored_and_what_failed);
async fn entries_are_what_waits_what_is_stored_and_what_failed(directory: &Path) {
    let web = Web::start().await.unwrap();
    web.hold("/held");
    let config = Config {
        fetch: Fetch { local_networks: vec!["127.0.0.1/32".parse().unwrap()], ..Fetch::default() },
        ingest_workers: 1,
        ..config(directory)
    };
    let peer = serve(config).await.unwrap();
    let mut caller = Caller::new(&peer, "a");
    caller.put("b", b"words").await.unwrap();
    caller.put("d", "wörds".as_bytes()).await.unwrap();
    let job = begin(&mut caller).await;
    for source in ["a", "b", "c"] {
        add(&mut caller, &job, source, b"\xff").await.unwrap();
    }
    ended(&mut caller, &job).await;
    // More than once, and told once.
    for _ in 0..2 {
        let job = begin(&mut caller).await;
        add(&mut caller, &job, "a", b"\xff").await.unwrap();
        ended(&mut caller, &job).await;
    }
    // Another collection's are none of them, also when they are newer.
    let name = "other".to_owned();
    let message = CreateCollectionRequest { name: name.clone(), ..Default::default() };
    caller.client.create_collection(request(&caller.context, message)).await.unwrap();
    let message = CreateJobRequest { collection: name.clone(), documents: Vec::new() };
    let reply = caller.client.create_job(request(&caller.context, message)).await.unwrap();
    let job = reply.into_inner().job.unwrap().id;
    add(&mut caller, &job, "c", b"\xff").await.unwrap();
    ended(&mut caller, &job).await;
    let message = ListEntriesRequest { collection: name, ..ListEntriesRequest::default() };
    assert_eq!(shown(&list(&mut caller, message).await.0), [("c", TaskState::Failed)]);
    let waiting = begin(&mut caller).await;
    let held = format!("{}/held", web.url);
    let source = held.clone();
    let document =
        Some(PutDocumentRequest { source, fetch: true, ..PutDocumentRequest::default() });
    let message = AddToJobRequest { job: waiting.clone(), document };
    caller.client.add_to_job(request(&caller.context, message)).await.unwrap();
    web.until_asked("/held").await;
    // There is one worker: this one waits for the other.
    add(&mut caller, &waiting, "d", b"other words").await.unwrap();

    let (done, failed) = (TaskState::Done, TaskState::Failed);
    let all = [
        ("a", failed),
        ("b", done),
        ("c", failed),
        ("d", TaskState::Queued),
        (held.as_str(), TaskState::Running),
    ];
    let (entries, has_more) = list(&mut caller, ListEntriesRequest::default()).await;
    assert_eq!((shown(&entries), has_more), (all.to_vec(), false));
    assert!(entries[0].reason.contains("is not UTF-8"), "{:?}", entries[0]);
    assert_eq!((entries[1].bytes, entries[0].bytes), (5, 0));
    assert_eq!(entries[1].document_id, caller.put("b", b"words").await.unwrap().0);
    for (states, wanted) in
        [(vec![done], vec![1]), (vec![failed], vec![0, 2]), (vec![TaskState::Running], vec![4])]
    {
        let states = states.into_iter().map(i32::from).collect();
        let message = ListEntriesRequest { states, limit: 2, ..ListEntriesRequest::default() };
        let (entries, has_more) = list(&mut caller, message).await;
        let wanted: Vec<_> = wanted.into_iter().map(|at: usize| all[at]).collect();
        assert_eq!((shown(&entries), has_more), (wanted, false));
    }
    listed_in_pages(&mut caller, "", &all).await;
    let counts = collection(&mut caller).await;
    assert_eq!((counts.documents, counts.bytes), (2, 11));
    assert_eq!((counts.waiting, counts.waiting_stored, counts.failed), (2, 1, 2));
    let mut stranger = Caller::new(&peer, "b");
    assert!(list(&mut stranger, ListEntriesRequest::default()).await.0.is_empty());
    assert!(delete(&mut stranger, "b").await.is_err());

    // Added again it waits, however often it failed before.
    add(&mut caller, &waiting, "a", b"good words").await.unwrap();
    for limit in 1..=2 {
        let message = ListEntriesRequest { limit, ..ListEntriesRequest::default() };
        let (entries, _) = list(&mut caller, message).await;
        assert_eq!(shown(&entries)[0], ("a", TaskState::Queued));
    }

    // What waits, is worked on, is stored or failed goes.
    for source in [&held, "a", "b", "d"] {
        delete(&mut caller, source).await.unwrap();
        let missing = delete(&mut caller, source).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&missing), ErrorKind::NotFound);
    }
    web.write("/held", "text/plain", "late words");
    add(&mut caller, &waiting, "e", b"last words").await.unwrap();
    ended(&mut caller, &waiting).await;
    let (entries, _) = list(&mut caller, ListEntriesRequest::default()).await;
    assert_eq!(shown(&entries), [("c", failed), ("e", done)]);
    assert!(caller.search("late").await.is_empty());
}

over_each!(what_one_job_added_is_listed_as_it_is_by_now);
async fn what_one_job_added_is_listed_as_it_is_by_now(directory: &Path) {
    let web = Web::start().await.unwrap();
    web.hold("/held");
    let config = Config {
        fetch: Fetch { local_networks: vec!["127.0.0.1/32".parse().unwrap()], ..Fetch::default() },
        ingest_workers: 1,
        ..config(directory)
    };
    let peer = serve(config).await.unwrap();
    let mut caller = Caller::new(&peer, "a");
    caller.put("a", b"words that no job added").await.unwrap();
    let job = begin(&mut caller).await;
    for (source, text) in
        [("b", &b"words"[..]), ("c", b"\xff"), ("d", b"lost words"), ("e", b"old words")]
    {
        add(&mut caller, &job, source, text).await.unwrap();
    }
    ended(&mut caller, &job).await;
    delete(&mut caller, "d").await.unwrap();
    let message = PutDocumentRequest {
        source: "e".to_owned(),
        content: "words that are newer".into(),
        attributes: attributes(&[("year", ValueKind::Number(2024.0))]),
        ..PutDocumentRequest::default()
    };
    let (id, _) = caller.send(message).await.unwrap();
    let held = format!("{}/held", web.url);
    let source = held.clone();
    let document =
        Some(PutDocumentRequest { source, fetch: true, ..PutDocumentRequest::default() });
    let message = AddToJobRequest { job: job.clone(), document };
    caller.client.add_to_job(request(&caller.context, message)).await.unwrap();
    web.until_asked("/held").await;
    // There is one worker: this one waits for the other.
    add(&mut caller, &job, "f", b"words").await.unwrap();

    let of = |job: &str| ListEntriesRequest { job: job.to_owned(), ..Default::default() };
    let (entries, _) = list(&mut caller, of(&job)).await;
    let (done, failed) = (TaskState::Done, TaskState::Failed);
    let all = [
        ("b", done),
        ("c", failed),
        ("e", done),
        ("f", TaskState::Queued),
        (held.as_str(), TaskState::Running),
    ];
    assert_eq!(shown(&entries), all);
    assert!(entries[1].reason.contains("is not UTF-8"), "{:?}", entries[1]);
    assert_eq!((entries[0].bytes, entries[1].bytes, entries[2].bytes), (5, 0, 20));
    assert_eq!(entries[2].document_id, id);
    assert_eq!(entries[2].attributes, attributes(&[("year", ValueKind::Number(2024.0))]));
    listed_in_pages(&mut caller, &job, &all).await;
    for (states, wanted) in [
        (vec![done], vec![0, 2]),
        (vec![failed], vec![1]),
        (vec![TaskState::Queued, TaskState::Running], vec![3, 4]),
        (vec![TaskState::Unspecified], vec![]),
    ] {
        let states = states.into_iter().map(i32::from).collect();
        let message = ListEntriesRequest { states, limit: 2, ..of(&job) };
        let (entries, has_more) = list(&mut caller, message).await;
        let wanted: Vec<_> = wanted.into_iter().map(|at: usize| all[at]).collect();
        assert_eq!((shown(&entries), has_more), (wanted, false));
    }

    // It is of one tenant and one collection.
    let name = "other".to_owned();
    let message = CreateCollectionRequest { name: name.clone(), ..Default::default() };
    caller.client.create_collection(request(&caller.context, message)).await.unwrap();
    let elsewhere = ListEntriesRequest { collection: name, ..of(&job) };
    let stranger = Caller::new(&peer, "b");
    for (caller, message) in
        [(caller.again(), elsewhere), (caller.again(), of("job_none")), (stranger, of(&job))]
    {
        let Caller { mut client, context } = caller;
        let missing = client.list_entries(request(&context, message)).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&missing), ErrorKind::NotFound);
        assert!(missing.message().starts_with("job "), "{missing}");
    }
}

over_each!(what_a_document_is_filtered_by_changes_and_nothing_else_of_it);
async fn what_a_document_is_filtered_by_changes_and_nothing_else_of_it(directory: &Path) {
    changes(directory, None).await;
}

#[tokio::test]
async fn what_a_document_is_filtered_by_changes_in_qdrant() {
    let (directory, server) =
        (tempfile::tempdir().unwrap(), testkit::Qdrant::stand_in("127.0.0.1:0").await.unwrap());
    changes(directory.path(), Some(&server.url)).await;
}

async fn changes(directory: &Path, qdrant: Option<&str>) {
    let open = async |has_model: bool| {
        let model = Some(tiny_model(directory, 1));
        let embedding = Some(Embedding { model, threads: 1, ..Embedding::default() });
        let embedding = embedding.filter(|_| has_model);
        let qdrant = qdrant.map(|url| Qdrant { url: url.to_owned(), api_key: None });
        let config = Config { embedding, qdrant, ..config(directory) };
        Caller::new(&serve(config).await.unwrap(), "a")
    };
    let mut caller = open(true).await;
    for (source, text) in [("a.txt", "apple pear"), ("b.txt", "plum fig")] {
        let message = PutDocumentRequest {
            source: source.to_owned(),
            content: text.into(),
            attributes: of_year(1999.0),
            ..PutDocumentRequest::default()
        };
        caller.send(message).await.unwrap();
    }
    let before = scored(&mut caller).await;
    let (listed, _) = list(&mut caller, ListEntriesRequest::default()).await;
    change(&mut caller, "a.txt", of_year(2024.0)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(found_of_year(&mut caller, 2024.0).await, ["a.txt"]);
        assert_eq!(found_of_year(&mut caller, 1999.0).await, ["b.txt"]);
        let after = scored(&mut caller).await;
        assert_eq!(after.len(), before.len());
        for ((passage, scores), (same, before)) in after.iter().zip(&before) {
            assert_eq!(passage, same);
            let far = scores.iter().zip(before).any(|(is, was)| (is - was).abs() > 1e-5);
            assert!(!far, "{scores:?} {before:?}");
        }
        let (entries, _) = list(&mut caller, ListEntriesRequest::default()).await;
        let changed = Entry { attributes: of_year(2024.0), ..listed[0].clone() };
        assert_eq!(entries, [changed, listed[1].clone()]);
        drop(caller);
        caller = open(true).await;
    }

    // What cannot be changes nothing.
    let other_kind = attributes(&[("year", ValueKind::Text("MMXXIV".to_owned()))]);
    let unheard = attributes(&[("Year", ValueKind::Number(1.0))]);
    let many: Vec<String> = (0..33).map(|number| format!("a{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), ValueKind::Boolean(true))).collect();
    for (attributes, told) in [
        (other_kind, "/attributes/year: is a text, and a number in this collection"),
        (unheard, "/attributes/Year: a name has"),
        (attributes(&many), "/attributes: there are 33, at most 32 are allowed"),
    ] {
        let refused = change(&mut caller, "a.txt", attributes).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
        assert!(refused.message().starts_with(told), "{refused}");
    }
    let mut stranger = caller.again();
    stranger.context.tenant = TenantId::new("b").unwrap();
    for (mut caller, source) in [(caller.again(), "c.txt"), (stranger, "a.txt")] {
        let missing = change(&mut caller, source, of_year(1.0)).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&missing), ErrorKind::NotFound);
    }
    assert_eq!(found_of_year(&mut caller, 2024.0).await, ["a.txt"]);

    // A private call makes it private, and no model is asked for anything.
    drop(caller);
    let mut caller = open(false).await;
    caller.context.privacy = Privacy::Private;
    change(&mut caller, "a.txt", of_year(2030.0)).await.unwrap();
    drop(caller);
    let mut caller = open(true).await;
    assert_eq!(found_of_year(&mut caller, 2030.0).await, ["a.txt"]);
    let private = found(&mut caller, "privacy", ValueKind::Text("private".to_owned())).await;
    assert_eq!(private.len(), 1);
    assert!(private[0].passage.as_ref().unwrap().private);
    assert!(private[0].explanation.as_ref().unwrap().dense.is_some());
    change(&mut caller, "a.txt", HashMap::new()).await.unwrap();
    for (year, wanted) in [(2030.0, vec![]), (1999.0, vec!["b.txt"])] {
        assert_eq!(found_of_year(&mut caller, year).await, wanted);
    }
    let (entries, _) = list(&mut caller, ListEntriesRequest::default()).await;
    assert!(entries[0].attributes.is_empty());
}

over_each!(what_is_on_its_way_is_stored_with_what_was_said_of_it_last);
async fn what_is_on_its_way_is_stored_with_what_was_said_of_it_last(directory: &Path) {
    let web = Web::start().await.unwrap();
    web.hold("/held");
    let config = Config {
        fetch: Fetch { local_networks: vec!["127.0.0.1/32".parse().unwrap()], ..Fetch::default() },
        ingest_workers: 1,
        ..config(directory)
    };
    let mut caller = Caller::new(&serve(config).await.unwrap(), "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "bad", b"\xff").await.unwrap();
    ended(&mut caller, &job).await;
    let held = format!("{}/held", web.url);
    let put = PutDocumentRequest { attributes: of_year(1999.0), ..PutDocumentRequest::default() };
    for document in [
        PutDocumentRequest { source: held.clone(), fetch: true, ..put.clone() },
        PutDocumentRequest { source: "waits".to_owned(), content: "words".into(), ..put },
    ] {
        let message = AddToJobRequest { job: job.clone(), document: Some(document) };
        caller.client.add_to_job(request(&caller.context, message)).await.unwrap();
        // There is one worker: the second waits for the first.
        web.until_asked("/held").await;
    }
    let mut private = caller.again();
    private.context.privacy = Privacy::Private;
    change(&mut private, &held, of_year(2024.0)).await.unwrap();
    for source in ["bad", "waits"] {
        change(&mut caller, source, of_year(2024.0)).await.unwrap();
    }
    // It is refused at once, and not when its turn comes.
    let other_kind = attributes(&[("year", ValueKind::Boolean(true))]);
    let refused = change(&mut caller, "waits", other_kind).await.unwrap_err();
    assert!(refused.message().contains("a number in this collection"), "{refused}");
    let (entries, _) = list(&mut caller, ListEntriesRequest::default()).await;
    let states = [
        ("bad", TaskState::Failed),
        (held.as_str(), TaskState::Running),
        ("waits", TaskState::Queued),
    ];
    assert_eq!(shown(&entries), states);
    assert!(entries.iter().all(|entry| entry.attributes == of_year(2024.0)), "{entries:?}");

    web.write("/held", "text/plain", "late words");
    let (_, tasks) = ended(&mut caller, &job).await;
    assert!(tasks.iter().all(|task| task.attempts == 1), "nothing was begun again: {tasks:?}");
    assert_eq!(found_of_year(&mut caller, 2024.0).await, [held.as_str(), "waits"]);
    assert!(found_of_year(&mut caller, 1999.0).await.is_empty());
    let hits = found(&mut caller, "privacy", ValueKind::Text("private".to_owned())).await;
    let sources: Vec<_> = hits.iter().map(|hit| &hit.passage.as_ref().unwrap().source).collect();
    assert_eq!(sources, [&held]);
}

over_each!(what_is_made_private_on_its_way_is_embedded_as_that);
async fn what_is_made_private_on_its_way_is_embedded_as_that(directory: &Path) {
    let (web, asked) = (Web::start().await.unwrap(), Asked::default());
    web.hold("/held");
    let config = Config {
        fetch: Fetch { local_networks: vec!["127.0.0.1/32".parse().unwrap()], ..Fetch::default() },
        embedding: Some(Embedding { route: Some("vectors".to_owned()), ..Embedding::default() }),
        ..config(directory)
    };
    let peers = Peers { router: in_process(RouterServiceServer::new(asked.clone())) };
    let peer = in_process(retriever::server(config, peers).await.unwrap());
    let mut caller = Caller::new(&peer, "a");
    let job = begin(&mut caller).await;
    let source = format!("{}/held", web.url);
    let put = PutDocumentRequest { source: source.clone(), fetch: true, ..Default::default() };
    let message = AddToJobRequest { job: job.clone(), document: Some(put) };
    caller.client.add_to_job(request(&caller.context, message)).await.unwrap();
    web.until_asked("/held").await;
    let mut private = caller.again();
    private.context.privacy = Privacy::Private;
    change(&mut private, &source, HashMap::new()).await.unwrap();
    web.write("/held", "text/plain", "a secret");
    let embedded = async {
        while asked.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), embedded).await.unwrap();
    let asked = asked.0.lock().unwrap();
    assert!(asked.iter().all(|one| *one == Privacy::Private), "{asked:?}");
}

over_each!(a_collection_is_called_and_noted_as_people_say);
async fn a_collection_is_called_and_noted_as_people_say(directory: &Path) {
    let mut caller = Caller::new(&super::open(directory).await, "a");
    let change = |title: Option<&str>, pairs: Option<&[(&str, &str)]>| {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ChangeCollectionRequest {
            name: "default".to_owned(),
            title: title.map(str::to_owned),
            metadata: pairs.map(|pairs| Metadata { pairs: pairs.iter().map(pair).collect() }),
        }
    };
    let long = "x".repeat(257);
    for (message, title, notes) in [
        (change(Some("Handbook"), Some(&[("a", "b")])), "Handbook", 1),
        (change(None, None), "Handbook", 1),
        (change(None, Some(&[])), "Handbook", 0),
        (change(Some(""), None), "", 0),
    ] {
        let message = request(&caller.context, message);
        let changed = caller.client.change_collection(message).await.unwrap().into_inner();
        let changed = changed.collection.unwrap();
        assert_eq!((changed.title.as_str(), changed.metadata.len()), (title, notes));
        assert_eq!(collection(&mut caller).await, changed);
    }
    for (message, told) in [
        (change(Some(&long), None), "/name"),
        (change(None, Some(&[(&long[..65], "")])), "/metadata"),
    ] {
        let message = request(&caller.context, message);
        let refused = caller.client.change_collection(message).await.unwrap_err();
        assert!(refused.message().starts_with(told), "{refused}");
    }
    let message = ChangeCollectionRequest { name: "none".to_owned(), ..Default::default() };
    let missing = caller.client.change_collection(request(&caller.context, message)).await;
    assert_eq!(runtime::error::kind_of(&missing.unwrap_err()), ErrorKind::NotFound);
}
