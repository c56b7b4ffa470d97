//! What is in a collection and what is on its way there, as one list.

use std::path::Path;
use std::time::Duration;

use proto::retriever::{
    AddToJobRequest, ChangeCollectionRequest, Collection, CreateCollectionRequest,
    CreateJobRequest, DeleteEntryRequest, Entry, GetCollectionRequest, ListEntriesRequest,
    Metadata, PutDocumentRequest, TaskState,
};
use retriever::{Config, Fetch};
use testkit::web::Web;
use types::ErrorKind;

use super::{Caller, ValueKind, add, attributes, begin, config, ended, over_each, request, serve};

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
    let asked = async {
        while web.asked("/held") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
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
    let asked = async {
        while web.asked("/held") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
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
