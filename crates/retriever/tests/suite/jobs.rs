//! Jobs that are listed, removed, and kept for no longer than they are of use.

use std::path::Path;
use std::time::Duration;

use proto::retriever::{
    AddToJobRequest, CreateCollectionRequest, CreateJobRequest, DeleteJobRequest, GetJobRequest,
    Job, ListDocumentsRequest, ListJobsRequest, ListJobsResponse, PutDocumentRequest,
    RetryJobRequest, Task, TaskState,
};
use retriever::{Config, Embedding, PeerAddresses};
use testkit::web::Web;
use types::ErrorKind;

use super::{Caller, add, begin, config, ended, open, over_each, request, serve};

async fn delete(caller: &mut Caller, job: &str) -> tonic::Result<()> {
    let message = DeleteJobRequest { job: job.to_owned() };
    caller.client.delete_job(request(&caller.context, message)).await.map(|_| ())
}

fn is_missing<T: std::fmt::Debug>(reply: tonic::Result<T>) -> bool {
    runtime::error::kind_of(&reply.unwrap_err()) == ErrorKind::NotFound
}

async fn list(caller: &mut Caller, message: ListJobsRequest) -> ListJobsResponse {
    caller.client.list_jobs(request(&caller.context, message)).await.unwrap().into_inner()
}

/// Waits until the job's only document is as `wanted` says.
async fn seen(caller: &mut Caller, job: &str, wanted: impl Fn(&Task) -> bool) -> Task {
    let wait = async {
        loop {
            let message = GetJobRequest { job: job.to_owned(), ..GetJobRequest::default() };
            let reply = caller.client.get_job(request(&caller.context, message)).await.unwrap();
            let task = reply.into_inner().tasks.remove(0);
            if wanted(&task) {
                return task;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap()
}

over_each!(a_removed_job_is_forgotten_and_what_it_stored_stays);
async fn a_removed_job_is_forgotten_and_what_it_stored_stays(directory: &Path) {
    let peer = open(directory).await;
    let mut caller = Caller::new(&peer, "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "good.md", b"words").await.unwrap();
    add(&mut caller, &job, "bad.md", b"\xff").await.unwrap();
    ended(&mut caller, &job).await;
    assert!(is_missing(delete(&mut Caller::new(&peer, "b"), &job).await), "it is another's");
    delete(&mut caller, &job).await.unwrap();
    assert!(is_missing(delete(&mut caller, &job).await));
    assert!(is_missing(add(&mut caller, &job, "late.md", b"x").await));
    let retry = request(&caller.context, RetryJobRequest { job: job.clone() });
    assert!(is_missing(caller.client.retry_job(retry).await));
    for bare in [false, true] {
        let message = GetJobRequest { job: job.clone(), bare, ..GetJobRequest::default() };
        assert!(is_missing(caller.client.get_job(request(&caller.context, message)).await));
    }
    assert_eq!(caller.search("words").await.len(), 1);
}

over_each!(what_waits_in_a_removed_job_is_never_done);
async fn what_waits_in_a_removed_job_is_never_done(directory: &Path) {
    let away = Config {
        embedding: Some(Embedding { route: Some("away".to_owned()), ..Embedding::default() }),
        peers: PeerAddresses { router: "http://127.0.0.1:1".to_owned() },
        ..config(directory)
    };
    let mut caller = Caller::new(&serve(away).await.unwrap(), "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "removed.md", b"words").await.unwrap();
    let task = seen(&mut caller, &job, |task| !task.reason.is_empty()).await;
    assert_eq!(task.state(), TaskState::Queued, "{task:?}");
    delete(&mut caller, &job).await.unwrap();
    drop(caller);
    // Nothing keeps a document waiting now, and what has waited longest comes first.
    let mut caller = Caller::new(&open(directory).await, "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "kept.md", b"words").await.unwrap();
    ended(&mut caller, &job).await;
    let message = request(&caller.context, ListDocumentsRequest::default());
    let listed = caller.client.list_documents(message).await.unwrap().into_inner().documents;
    let sources: Vec<_> = listed.iter().map(|one| one.source.as_str()).collect();
    assert_eq!(sources, ["kept.md"]);
    assert_eq!(list(&mut caller, ListJobsRequest::default()).await.jobs.len(), 1);
}

over_each!(jobs_are_listed_page_by_page_and_by_collection);
async fn jobs_are_listed_page_by_page_and_by_collection(directory: &Path) {
    let peer = open(directory).await;
    let mut caller = Caller::new(&peer, "a");
    let mut made = Vec::new();
    for number in 0..5 {
        let name = ["hand-a", "hand-b", "other"][number % 3].to_owned();
        let message =
            CreateCollectionRequest { name: name.clone(), ..CreateCollectionRequest::default() };
        caller.client.create_collection(request(&caller.context, message)).await.unwrap();
        let message = CreateJobRequest { collection: name, documents: Vec::new() };
        let reply = caller.client.create_job(request(&caller.context, message)).await.unwrap();
        made.push(reply.into_inner().job.unwrap().id);
    }
    made.reverse();
    add(&mut caller, &made[0], "x.md", b"words").await.unwrap();
    ended(&mut caller, &made[0]).await;
    let ids = |jobs: &[Job]| jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>();
    let (mut listed, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = ListJobsRequest { page_size: 2, page_token, ..ListJobsRequest::default() };
        let page = list(&mut caller, page).await;
        listed.extend(page.jobs);
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((ids(&listed), pages), (made.clone(), 3));
    assert_eq!((listed[0].done, listed[1].done), (1, 0));
    for (collections, wanted) in [
        (vec!["hand-b"], vec![0, 3]),
        (vec!["hand-*"], vec![0, 1, 3, 4]),
        (vec!["o*", "hand-a"], vec![1, 2, 4]),
        (vec!["hand-"], vec![]),
        (vec!["*"], vec![0, 1, 2, 3, 4]),
    ] {
        let wanted: Vec<String> = wanted.into_iter().map(|at: usize| made[at].clone()).collect();
        let collections: Vec<String> = collections.into_iter().map(str::to_owned).collect();
        let page = ListJobsRequest { collections, ..ListJobsRequest::default() };
        let page = list(&mut caller, page).await;
        assert_eq!((ids(&page.jobs), page.next_page_token.as_str()), (wanted, ""));
    }
    let mut other = Caller::new(&peer, "b");
    assert!(list(&mut other, ListJobsRequest::default()).await.jobs.is_empty());
}

over_each!(the_bytes_of_what_failed_are_dropped_in_time_and_its_reason_stays);
async fn the_bytes_of_what_failed_are_dropped_in_time_and_its_reason_stays(directory: &Path) {
    let mut caller = Caller::new(&open(directory).await, "a");
    let job = begin(&mut caller).await;
    add(&mut caller, &job, "bad.md", b"\xff").await.unwrap();
    ended(&mut caller, &job).await;
    let by_address = begin(&mut caller).await;
    fetch(&mut caller, &by_address, "http://127.0.0.1:1/").await;
    ended(&mut caller, &by_address).await;
    drop(caller);
    let mut caller = Caller::new(&open_for(directory, 1).await, "a");
    // A day has not gone by: it is there to be worked on again.
    let retry = || RetryJobRequest { job: job.clone() };
    let retried = caller.client.retry_job(request(&caller.context, retry())).await.unwrap();
    assert_eq!(retried.into_inner().queued, 1);
    ended(&mut caller, &job).await;
    drop(caller);
    let mut caller = Caller::new(&open_for(directory, 0).await, "a");
    let task = seen(&mut caller, &job, |task| task.reason.contains("dropped")).await;
    assert_eq!(task.state(), TaskState::Failed);
    assert!(task.reason.contains("is not UTF-8"), "{}", task.reason);
    let retried = caller.client.retry_job(request(&caller.context, retry())).await.unwrap();
    assert_eq!(retried.into_inner().queued, 0, "there is nothing to be worked on");
    let task = seen(&mut caller, &by_address, |_| true).await;
    assert!(task.reason.ends_with("retriever.fetch.local_networks"), "{}", task.reason);
    let retry = RetryJobRequest { job: by_address };
    let retried = caller.client.retry_job(request(&caller.context, retry)).await.unwrap();
    assert_eq!(retried.into_inner().queued, 1, "it is fetched anew");
    add(&mut caller, &job, "bad.md", b"better").await.unwrap();
    let (counts, _) = ended(&mut caller, &job).await;
    assert_eq!((counts.done, counts.failed), (1, 0));
}

over_each!(what_is_stored_as_private_is_fetched_as_private_when_nobody_says_otherwise);
async fn what_is_stored_as_private_is_fetched_as_private_when_nobody_says_otherwise(
    directory: &Path,
) {
    let web = Web::start().await.unwrap();
    web.write("/a", "text/plain", "A public lamp.");
    let address = format!("{}/a", web.url);
    let mut caller = Caller::new(&open(directory).await, "a");
    let message = PutDocumentRequest {
        source: address.clone(),
        media_type: "text/plain".to_owned(),
        content: "A private lamp.".into(),
        private: Some(true),
        ..PutDocumentRequest::default()
    };
    caller.client.put_document(request(&caller.context, message)).await.unwrap();
    let job = begin(&mut caller).await;
    fetch(&mut caller, &job, &address).await;
    let task = seen(&mut caller, &job, |task| task.state() == TaskState::Failed).await;
    assert!(task.reason.contains("it is private, and its address"), "{}", task.reason);
    assert_eq!(web.asked("/a"), 0, "nobody was asked");
}

async fn fetch(caller: &mut Caller, job: &str, address: &str) {
    let source = address.to_owned();
    let document =
        Some(PutDocumentRequest { source, fetch: true, ..PutDocumentRequest::default() });
    let message = AddToJobRequest { job: job.to_owned(), document };
    caller.client.add_to_job(request(&caller.context, message)).await.unwrap();
}

async fn open_for(directory: &Path, ingest_failed_days: u32) -> runtime::transport::Peer {
    serve(Config { ingest_failed_days, ..config(directory) }).await.unwrap()
}
