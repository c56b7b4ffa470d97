//! Conversations with tools, over a model and servers that do as they are told.

use std::path::Path;

use orchestrator::Tools;
use proto::orchestrator::ToolAnswered;
use proto::orchestrator::event::Kind;
use proto::router::Dialect;
use serde_json::{Value, json};
use types::{ErrorKind, Privacy};

use crate::bridge::{Bridge, SECRET};
use crate::support::{Orchestrator, Router, eventually};

async fn begin(directory: &Path) -> (Orchestrator, Router, Bridge) {
    let (router, bridge) = (Router::default(), Bridge::default());
    let tools = Tools { result_bytes: 100, ..Tools::default() };
    let orchestrator = Orchestrator::conversing(directory, &router, &bridge, tools).await;
    (orchestrator, router, bridge)
}

fn chat(servers: &[&str]) -> Value {
    let tools = servers.iter().map(|server| json!({ "type": "mcp", "server_label": server }));
    json!({
        "model": "m",
        "messages": [{ "role": "user", "content": "hello" }],
        "tools": tools.collect::<Vec<_>>(),
    })
}

/// Has a conversation with the tools of these servers; returns its run and the answer.
async fn converse(orchestrator: &Orchestrator, servers: &[&str]) -> (String, Value) {
    orchestrator.converse(Dialect::ChatCompletions, &chat(servers)).await.unwrap()
}

/// Returns what became of each call of a run, in order.
async fn answered(orchestrator: &Orchestrator, run: String) -> Vec<ToolAnswered> {
    let events = orchestrator.events(run).await.into_iter();
    let answered = events.filter_map(|event| match event.kind {
        Some(Kind::ToolAnswered(answered)) => Some(answered),
        _ => None,
    });
    answered.collect()
}

#[tokio::test]
async fn what_a_private_server_says_is_for_private_calls_alone_its_errors_too() {
    let directory = tempfile::tempdir().unwrap();
    let (orchestrator, router, bridge) = begin(directory.path()).await;
    router.will_call(&["secret__fault"]);
    let (run, _) = converse(&orchestrator, &["secret"]).await;
    let asked = router.calls();
    assert!(asked.len() == 2 && asked[1].said.contains(SECRET), "{asked:?}");
    // The first turn has read what the server says of its tools.
    assert!(asked.iter().all(|call| call.context.privacy == Privacy::Private), "{asked:?}");
    assert_eq!(bridge.asked().last().unwrap(), &("secret__fault".to_owned(), Privacy::Private));
    let answered = answered(&orchestrator, run).await;
    assert!(answered[0].outcome == "failed" && answered[0].private, "{answered:?}");

    // Without one of its tools a call is as private as its client says.
    converse(&orchestrator, &["open", "away"]).await;
    assert_eq!(router.calls()[2].context.privacy, Privacy::Public);
    let both = chat(&["away", "secret"]);
    let refused = orchestrator.converse(Dialect::ChatCompletions, &both).await.unwrap_err();
    assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    let told = refused.message();
    assert!(told.contains("\"away\" has no tool") && told.contains("with server \"secret\""));
    assert_eq!(router.calls().len(), 3);
}

#[tokio::test]
async fn what_continues_a_private_response_is_private_before_a_tool_is_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let (orchestrator, router, bridge) = begin(directory.path()).await;
    for (previous, privacy) in
        [("resp_public", Privacy::Public), ("resp_private", Privacy::Private)]
    {
        router.will_call(&["open__long"]);
        let tool = json!({ "type": "mcp", "server_label": "open", "require_approval": "never" });
        let body = json!({
            "model": "m", "input": "go on", "previous_response_id": previous, "tools": [tool],
        });
        let before = (bridge.asked().len(), router.calls().len());
        orchestrator.converse(Dialect::Responses, &body).await.unwrap();
        let asked = bridge.asked().split_off(before.0);
        let expected = [(String::new(), privacy), ("open__long".to_owned(), privacy)];
        assert_eq!(asked, expected, "{previous}");
        let models = router.calls().split_off(before.1);
        assert!(models.len() == 2, "{models:?}");
        assert!(models.iter().all(|call| call.context.privacy == privacy), "{models:?}");
    }
}

#[tokio::test]
async fn what_is_too_much_is_cut_and_what_is_denied_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (orchestrator, router, bridge) = begin(directory.path()).await;
    router.will_call(&["open__long"]);
    router.will_call(&["open__denied"]);
    router.will_call(&["open__long"; 33]);
    let (run, answer) = converse(&orchestrator, &["open"]).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "done");
    let asked = router.calls();
    assert!(asked[1].said.ends_with("xx\n[cut after 100 of 1000 bytes]"), "{}", asked[1].said);
    assert!(asked[2].said.ends_with("error: a rule denies it"), "{}", asked[2].said);
    assert!(asked[3].said.contains("more than 32 calls at once"), "{}", asked[3].said);
    // A list, and every call but the one that was too many.
    assert_eq!(bridge.asked().len(), 1 + 2 + 32);
    let answered = answered(&orchestrator, run).await;
    let outcomes: Vec<_> = answered.iter().map(|one| one.outcome.as_str()).collect();
    assert_eq!(outcomes[..3], ["ok", "denied", "ok"]);
    assert!(outcomes.len() == 35 && outcomes[34] == "failed", "{outcomes:?}");
    assert_eq!((answered[0].bytes, answered[0].private), (1_000, false));
}

#[tokio::test]
async fn so_many_calls_of_a_turn_are_made_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (orchestrator, router, bridge) = begin(directory.path()).await;
    router.will_call(&["open__wait"; 6]);
    let go_on = async {
        eventually("four wait", || bridge.now() == 4).await;
        bridge.go_on(6);
    };
    tokio::join!(converse(&orchestrator, &["open"]), go_on);
    assert_eq!((bridge.most_at_once(), bridge.asked().len()), (4, 7));
}
