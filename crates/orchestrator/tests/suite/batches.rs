//! Batches through the real service, over a router that does as it is told.

use std::path::Path;

use orchestrator::Batch as Limits;
use proto::orchestrator::{Batch, BatchStatus};
use serde_json::Value;
use types::{Clock as _, ErrorKind, Privacy};

use crate::support::{Orchestrator, Router, eventually, file_of, line};

fn limits() -> Limits {
    Limits { lease_ms: 400, attempts: 2, ..Limits::default() }
}

async fn begin(directory: &Path, router: &Router) -> Orchestrator {
    Orchestrator::start(directory, router, limits()).await
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["custom_id"].as_str().unwrap()).collect()
}

fn counts(batch: &Batch) -> (u32, u32, u32) {
    (batch.total, batch.completed, batch.failed)
}

#[tokio::test]
async fn a_batch_goes_from_a_file_into_files() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    let text = file_of(&["one", "refuse me", "three"]);
    let file = ours.upload("requests.jsonl", &text).await.unwrap();
    assert_eq!((file.purpose.as_str(), file.bytes), ("batch", text.len() as u64));
    assert_eq!(ours.content(&file.id).await.unwrap(), text.as_bytes());
    let made = ours.create(&file.id, &[]).await.unwrap();
    assert_eq!(made.status(), BatchStatus::Validating);
    let batch = ours.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!(counts(&batch), (3, 2, 1));
    assert_eq!(batch.cost_nanos, 20);
    assert!(batch.created_at_ms <= batch.in_progress_at_ms);
    assert!(batch.in_progress_at_ms <= batch.finalizing_at_ms);
    assert!(batch.finalizing_at_ms <= batch.ended_at_ms);

    let output = ours.lines(&batch.output_file_id).await;
    assert_eq!(ids(&output), ["one", "three"]);
    let response = &output[0]["response"];
    assert_eq!(response["status_code"], 200);
    assert_eq!(response["body"]["said"], "one");
    assert!(response["request_id"].is_string() && output[0]["error"].is_null());
    let errors = ours.lines(&batch.error_file_id).await;
    assert_eq!(ids(&errors), ["refuse me"]);
    let said = runtime::error::body(
        proto::router::Dialect::ChatCompletions,
        ErrorKind::Invalid,
        "/model: unheard of",
    );
    assert_eq!((&errors[0]["response"]["body"], &errors[0]["error"]), (&said, &Value::Null));
    assert_eq!(errors[0]["response"]["status_code"], 400);
    assert_eq!(ours.file(&batch.output_file_id).await.unwrap().purpose, "batch_output");

    // A row's id is the call's idempotency key.
    let calls = router.calls();
    let id = output[0]["id"].as_str();
    assert!(calls.iter().any(|call| call.context.idempotency_key.as_deref() == id), "{calls:?}");
}

#[tokio::test]
async fn a_batch_with_a_wrong_line_fails_and_asks_nobody() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    let text = format!("{}\nnonsense\n{}\n", line("a", "x"), line("a", "x"));
    let file = ours.upload("requests.jsonl", &text).await.unwrap();
    let made = ours.create(&file.id, &[]).await.unwrap();
    let batch = ours.wait(&made.id, BatchStatus::Failed).await;
    let faults: Vec<_> = batch.faults.iter().map(|f| (f.code.as_str(), f.line)).collect();
    assert_eq!(faults, [("invalid_json_line", 2), ("duplicate_custom_id", 3)]);
    assert_eq!(counts(&batch), (0, 0, 0));
    assert!(batch.output_file_id.is_empty() && batch.error_file_id.is_empty());
    assert!(router.calls().is_empty());
    let refused = ours.cancel(&made.id).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_and_a_cancelled_batch_finishes_it() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 2, ..limits() };
    let ours = Orchestrator::start(directory.path(), &router, limits).await;
    let text = file_of(&["wait 1", "wait 2", "wait 3", "wait 4"]);
    let file = ours.upload("requests.jsonl", &text).await.unwrap();
    let made = ours.create(&file.id, &[]).await.unwrap();
    eventually("two are in flight", || router.calls().len() == 2).await;
    let cancelled = ours.cancel(&made.id).await.unwrap();
    assert_eq!(cancelled.status(), BatchStatus::Cancelling);
    router.go_on(4);
    let batch = ours.wait(&made.id, BatchStatus::Cancelled).await;
    assert_eq!(counts(&batch), (4, 2, 2));
    assert_eq!((router.calls().len(), router.most_at_once()), (2, 2));
    assert_eq!(ids(&ours.lines(&batch.output_file_id).await), ["wait 1", "wait 2"]);
    let errors = ours.lines(&batch.error_file_id).await;
    assert_eq!(ids(&errors), ["wait 3", "wait 4"]);
    assert_eq!(errors[0]["error"]["code"], "batch_cancelled");
    assert_eq!(ours.cancel(&made.id).await.unwrap().status(), BatchStatus::Cancelled);
}

#[tokio::test]
async fn a_limit_of_its_own_ends_a_batch_before_it_could_be_passed() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    // Each costs 10 and could cost 30: after the third, another might pass 50.
    let names: Vec<_> = (1..=6).map(|n| format!("ask {n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let file = ours.upload("requests.jsonl", &file_of(&names)).await.unwrap();
    let made = ours.create(&file.id, &[("max_cost_usd", "0.000000050")]).await.unwrap();
    let batch = ours.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!(counts(&batch), (6, 3, 3));
    assert_eq!((batch.cost_nanos, router.calls().len()), (30, 3));
    for error in ours.lines(&batch.error_file_id).await {
        assert_eq!(error["error"]["code"], "budget_exceeded", "{error}");
        assert_eq!(error["response"], Value::Null);
    }
    // One that covers nothing asks nobody.
    let made = ours.create(&file.id, &[("max_cost_usd", "0")]).await.unwrap();
    let batch = ours.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!((counts(&batch), router.calls().len()), ((6, 0, 6), 3));
    assert!(batch.output_file_id.is_empty(), "there is nothing in it");
}

#[tokio::test]
async fn who_was_killed_is_followed_by_another_who_repeats_only_what_was_in_flight() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let first = begin(directory.path(), &router).await;
    let names = (0..9).map(|n| format!("{} {n}", if n < 3 { "go" } else { "wait" }));
    let names: Vec<_> = names.collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let file = first.upload("requests.jsonl", &file_of(&names)).await.unwrap();
    let made = first.create(&file.id, &[("max_cost_usd", "0.000000300")]).await.unwrap();
    eventually("three are done and four in flight", || router.calls().len() == 7).await;
    first.kill(&router).await;

    router.go_on(100);
    let second = begin(directory.path(), &router).await;
    let batch = second.wait(&made.id, BatchStatus::Completed).await;
    let asked = |name: &str| router.calls().iter().filter(|call| call.said == name).count();
    for (number, name) in names.iter().enumerate() {
        let wanted = if (3..7).contains(&number) { 2 } else { 1 };
        assert_eq!(asked(name), wanted, "{name}");
    }
    // Four may have been paid unseen: 30 + 4 · 30 + 6 · 10 leaves room for all under 300.
    assert_eq!(counts(&batch), (9, 9, 0));
    assert_eq!(ids(&second.lines(&batch.output_file_id).await), names);
}

#[tokio::test]
async fn what_may_have_been_paid_unseen_counts_against_the_limit() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 1, ..limits() };
    let first = Orchestrator::start(directory.path(), &router, limits.clone()).await;
    let file = first.upload("requests.jsonl", &file_of(&["wait 1"])).await.unwrap();
    // Enough for one, not for one that was asked twice.
    let made = first.create(&file.id, &[("max_cost_usd", "0.000000059")]).await.unwrap();
    eventually("it is in flight", || router.calls().len() == 1).await;
    first.kill(&router).await;
    let second = Orchestrator::start(directory.path(), &router, limits).await;
    let batch = second.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!((counts(&batch), router.calls().len()), ((1, 0, 1), 1));
    let errors = second.lines(&batch.error_file_id).await;
    assert_eq!(errors[0]["error"]["code"], "budget_exceeded");
}

#[tokio::test]
async fn who_is_asked_to_stop_finishes_what_is_in_flight_and_nothing_is_repeated() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 2, lease_ms: 600_000, ..limits() };
    let first = Orchestrator::start(directory.path(), &router, limits.clone()).await;
    let file = file_of(&["wait 1", "wait 2", "wait 3"]);
    let file = first.upload("requests.jsonl", &file).await.unwrap();
    let made = first.create(&file.id, &[]).await.unwrap();
    eventually("two are in flight", || router.calls().len() == 2).await;
    let stopped = tokio::spawn(first.stop());
    router.go_on(3);
    stopped.await.unwrap();
    assert_eq!(router.calls().len(), 2, "nothing more was begun");
    // It gave its lease back, so the next need not wait ten minutes.
    let second = Orchestrator::start(directory.path(), &router, limits).await;
    let batch = second.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!((counts(&batch), router.calls().len()), ((3, 3, 0), 3));
}

#[tokio::test]
async fn of_several_on_one_database_one_works_on_a_batch() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 2, ..Limits::default() };
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Orchestrator::start(directory.path(), &router, limits.clone()).await);
    }
    let names: Vec<_> = (0..40).map(|n| format!("ask {n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let file = all[0].upload("requests.jsonl", &file_of(&names)).await.unwrap();
    let made = all[1].create(&file.id, &[]).await.unwrap();
    let batch = all[2].wait(&made.id, BatchStatus::Completed).await;
    assert_eq!((counts(&batch), router.calls().len()), ((40, 40, 0), 40));
    assert!(router.most_at_once() <= 2, "{}", router.most_at_once());
}

#[tokio::test]
async fn a_replica_that_lost_its_lease_changes_nothing_any_more() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 1, ..limits() };
    let first = Orchestrator::start(directory.path(), &router, limits.clone()).await;
    let file = first.upload("requests.jsonl", &file_of(&["wait 1", "ask 2"])).await.unwrap();
    let made = first.create(&file.id, &[]).await.unwrap();
    eventually("it is in flight", || router.calls().len() == 1).await;
    // To the second, whose clock is ahead, the first's lease is over.
    let second = Orchestrator::ahead(directory.path(), &router, limits, 10_000).await;
    eventually("it is asked again", || router.calls().len() == 2).await;
    router.go_on(2);
    let batch = second.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!(counts(&batch), (2, 2, 0));
    assert_eq!(second.lines(&batch.output_file_id).await.len(), 2);
    assert_eq!(batch.cost_nanos, 20, "what the first learned too late is not counted");
}

#[tokio::test]
async fn whoever_cannot_be_reached_for_now_is_asked_again() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    let file = file_of(&["busy once", "busy always"]);
    let file = ours.upload("requests.jsonl", &file).await.unwrap();
    let made = ours.create(&file.id, &[]).await.unwrap();
    let batch = ours.wait(&made.id, BatchStatus::Completed).await;
    assert_eq!(counts(&batch), (2, 1, 1));
    assert_eq!(router.calls().len(), 4, "two attempts each");
    let errors = ours.lines(&batch.error_file_id).await;
    assert_eq!(errors[0]["response"]["status_code"], 503);
    assert_eq!(errors[0]["response"]["body"]["error"]["code"], "unavailable");
}

#[tokio::test]
async fn a_call_that_was_lost_on_its_way_is_repeated_and_counts_as_if_it_was_paid() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    for (said, limit, wanted) in
        [("cut 1", "0.000000060", (1, 1, 0)), ("cut 2", "0.000000059", (1, 0, 1))]
    {
        let file = ours.upload("requests.jsonl", &file_of(&[said])).await.unwrap();
        let made = ours.create(&file.id, &[("max_cost_usd", limit)]).await.unwrap();
        let batch = ours.wait(&made.id, BatchStatus::Completed).await;
        assert_eq!(counts(&batch), wanted, "{said}");
    }
    assert_eq!(router.calls().len(), 3);
}

#[tokio::test]
async fn a_file_that_is_gone_before_it_was_read_is_a_fault() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { batches: 1, ..limits() };
    let ours = Orchestrator::start(directory.path(), &router, limits).await;
    let file = ours.upload("requests.jsonl", &file_of(&["wait 1"])).await.unwrap();
    let first = ours.create(&file.id, &[]).await.unwrap();
    eventually("the first is in flight", || router.calls().len() == 1).await;
    let second = ours.create(&file.id, &[]).await.unwrap();
    ours.delete(&file.id).await.unwrap();
    router.go_on(1);
    ours.wait(&first.id, BatchStatus::Completed).await;
    let batch = ours.wait(&second.id, BatchStatus::Failed).await;
    assert_eq!(batch.faults[0].code, "file_not_found");
    assert_eq!(router.calls().len(), 1);
}

#[tokio::test]
async fn a_call_is_made_in_its_creators_name_and_as_privately_as_its_file() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let mut ours = begin(directory.path(), &router).await;
    let public = ours.upload("requests.jsonl", &file_of(&["public"])).await.unwrap();
    ours.context.privacy = Privacy::Private;
    let private = ours.upload("requests.jsonl", &file_of(&["private file"])).await.unwrap();
    let asked_privately = ours.create(&public.id, &[]).await.unwrap();
    ours.context.privacy = Privacy::Public;
    let of_private = ours.create(&private.id, &[]).await.unwrap();
    let plain = ours.create(&public.id, &[]).await.unwrap();
    for (batch, privacy) in [
        (&asked_privately, Privacy::Private),
        (&of_private, Privacy::Private),
        (&plain, Privacy::Public),
    ] {
        ours.wait(&batch.id, BatchStatus::Completed).await;
        let calls = router.calls();
        let call =
            calls.iter().find(|call| call.context.run.as_ref().unwrap().as_str() == batch.id);
        let context = &call.unwrap().context;
        assert_eq!(context.privacy, privacy);
        assert_eq!((&context.tenant, &context.user), (&ours.context.tenant, &ours.context.user));
        assert_eq!((&context.team, &context.key), (&ours.context.team, &ours.context.key));
    }
}

#[tokio::test]
async fn another_tenants_files_and_batches_do_not_exist() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let mut someone = begin(directory.path(), &router).await;
    let file = someone.upload("requests.jsonl", &file_of(&["a"])).await.unwrap();
    let batch = someone.create(&file.id, &[]).await.unwrap();
    let ended = someone.wait(&batch.id, BatchStatus::Completed).await;
    let own = someone.context.tenant.clone();
    someone.context.tenant = types::TenantId::new("another").unwrap();
    let kinds = [
        someone.file(&file.id).await.map(drop),
        someone.file(&ended.output_file_id).await.map(drop),
        someone.content(&file.id).await.map(drop),
        someone.delete(&file.id).await,
        someone.create(&file.id, &[]).await.map(drop),
        someone.batch(&batch.id).await.map(drop),
        someone.cancel(&batch.id).await.map(drop),
    ];
    for kind in kinds {
        let refused = kind.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::NotFound, "{refused}");
    }
    assert!(someone.files("", 0).await.0.is_empty());
    assert!(someone.batches("", 0).await.0.is_empty());
    someone.context.tenant = own;
    assert_eq!(someone.files("", 0).await.0.len(), 2);
    someone.delete(&file.id).await.unwrap();
    assert!(someone.content(&file.id).await.is_err());
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    let (mut files, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let file = ours.upload("requests.jsonl", "{}").await.unwrap();
        batches.push(ours.create(&file.id, &[]).await.unwrap().id);
        files.push(file.id);
    }
    files.reverse();
    batches.reverse();
    let (first, more) = ours.files("", 3).await;
    let (rest, none) = ours.files(&first[2], 3).await;
    assert_eq!((more, none, [first, rest].concat()), (true, false, files));
    let (first, more) = ours.batches("", 3).await;
    let (rest, none) = ours.batches(&first[2], 3).await;
    assert_eq!((more, none, [first, rest].concat()), (true, false, batches));
}

#[tokio::test]
async fn what_is_over_expires() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { concurrency: 1, sweep_ms: 20, ..limits() };
    let ours = Orchestrator::start(directory.path(), &router, limits).await;
    let file = ours.upload("requests.jsonl", &file_of(&["wait 1", "ask 2"])).await.unwrap();
    let made = ours.create(&file.id, &[]).await.unwrap();
    eventually("the first is in flight", || router.calls().len() == 1).await;
    ours.clock.forward(24 * 3_600_000);
    router.go_on(1);
    let batch = ours.wait(&made.id, BatchStatus::Expired).await;
    assert_eq!(counts(&batch), (2, 1, 1));
    let errors = ours.lines(&batch.error_file_id).await;
    assert_eq!(errors[0]["error"]["code"], "batch_expired");
    assert!(file.expires_at_ms > ours.clock.now_ms());
    ours.clock.forward(30 * 24 * 3_600_000);
    assert!(ours.content(&file.id).await.is_err(), "also before it is swept");
    assert!(ours.file(&batch.output_file_id).await.is_err());
}

#[tokio::test]
async fn an_upload_that_was_cut_off_or_is_none_of_ours_leaves_nothing() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    use proto::orchestrator::FileEnd;
    use proto::orchestrator::create_file_request::Part;
    let good = vec![
        Part::Chunk("{}".into()),
        Part::Filename("a".to_owned()),
        Part::Purpose("batch".to_owned()),
    ];
    let end = Part::End(FileEnd {});
    assert!(ours.send(good.clone()).await.is_err(), "without its end");
    for missing in [1, 2] {
        let mut parts = good.clone();
        parts.remove(missing);
        parts.push(end.clone());
        assert!(ours.send(parts).await.is_err());
    }
    let other = Part::Purpose("fine-tune".to_owned());
    assert!(ours.send([good.clone(), vec![other, end.clone()]].concat()).await.is_err());
    assert!(ours.files("", 0).await.0.is_empty());
    let file = ours.send([good, vec![end]].concat()).await.unwrap();
    assert_eq!(ours.content(&file.id).await.unwrap(), b"{}");
}

#[tokio::test]
async fn a_tenant_fills_no_disk_by_uploads_whole_or_left_alone() {
    use proto::orchestrator::CreateFileRequest;
    use proto::orchestrator::create_file_request::Part;
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let limits = Limits { tenant_bytes: 1_500_000, ..limits() };
    let ours = Orchestrator::start(directory.path(), &router, limits).await;
    let text = "x".repeat(1_000_000);
    let file = ours.upload("first", &text).await.unwrap();
    let refused = ours.upload("second", &text).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Conflict, "{refused}");
    assert!(refused.message().contains("1500000 bytes"), "{refused}");
    ours.upload("small", "x").await.unwrap();
    ours.delete(&file.id).await.unwrap();

    // One whose client goes away in the middle, and never says so.
    let (pieces, sent) = tokio::sync::mpsc::channel(1);
    let piece = || CreateFileRequest { part: Some(Part::Chunk(vec![0; 1_000_000].into())) };
    let upload = ours.upload_of(tokio_stream::wrappers::ReceiverStream::new(sent));
    let left = async {
        for _ in 0..2 {
            // Taken, and so the one before is written.
            pieces.send(piece()).await.unwrap();
        }
    };
    tokio::select! {
        refused = upload => panic!("{refused:?}"),
        () = left => {}
    }
    let again = async {
        while ours.upload("again", &text).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await.unwrap();
}

#[tokio::test]
async fn a_large_file_is_kept_byte_by_byte() {
    let (directory, router) = (tempfile::tempdir().unwrap(), Router::default());
    let ours = begin(directory.path(), &router).await;
    let text: String = (0..300_000).map(|n| format!("{n},")).collect();
    let file = ours.upload("requests.jsonl", &text).await.unwrap();
    assert!(text.len() > 5 * 256 * 1024);
    assert!(ours.content(&file.id).await.unwrap() == text.as_bytes());
}
