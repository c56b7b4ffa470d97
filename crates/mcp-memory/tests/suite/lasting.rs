//! What was acknowledged stays, whoever is killed and however many write.

use std::collections::BTreeSet;

use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;
use testkit::Process;

use crate::support::{call, serve, sqlite};

#[tokio::test]
async fn four_processes_keep_a_hundred_of_a_hundred_entities() {
    let directory = tempfile::tempdir().unwrap();
    let server = testkit::Postgres::start().unwrap();
    for store in [sqlite(directory.path()), server.url()] {
        let works = (0..4).map(|process| {
            let store = store.clone();
            tokio::spawn(async move {
                let client = serve(&store).await;
                for number in 0..25 {
                    let name = format!("{process}-{number}");
                    let entity = json!({ "name": name, "entityType": "t", "observations": ["o"] });
                    let shared = json!({ "name": "shared", "entityType": "t", "observations": [] });
                    let both = json!({ "entities": [shared, entity] });
                    let made = call(&client, "create_entities", both).await;
                    assert_ne!(made.is_error, Some(true), "{made:?}");
                    let seen = json!({ "entityName": "shared", "contents": [name] });
                    let added = json!({ "observations": [seen] });
                    let added = call(&client, "add_observations", added).await;
                    assert_ne!(added.is_error, Some(true), "{added:?}");
                }
            })
        });
        for work in works.collect::<Vec<_>>() {
            work.await.unwrap();
        }
        let graph = call(&serve(&store).await, "read_graph", json!({})).await;
        let graph = graph.structured_content.unwrap();
        let entities = graph["entities"].as_array().unwrap();
        let names: BTreeSet<_> = entities.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!((entities.len(), names.len()), (101, 101));
        let shared = entities.iter().find(|one| one["name"] == "shared").unwrap();
        assert_eq!(shared["observations"].as_array().unwrap().len(), 100);
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    runtime::http::use_ring();
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let process = Process::service("mcp-memory", |command| {
            command.env("BATON_MCP_MEMORY__STORE", &store);
        });
        let process = process.await.unwrap();
        let url = format!("{}/mcp", process.url);
        let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap();
        // One call after the other, and killed in the midst of them.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}-{number}");
                let entity = json!({ "name": name, "entityType": "t", "observations": [name] });
                let all = json!({ "entities": [entity] }).as_object().unwrap().clone();
                let request = CallToolRequestParams::new("create_entities").with_arguments(all);
                match client.call_tool(request).await {
                    Ok(answer) if answer.is_error != Some(true) => tell.send(name).unwrap(),
                    _ => return,
                }
            }
        });
        for _ in 0..30 {
            acknowledged.push(told.recv().await.unwrap());
        }
        process.kill().await.unwrap();
        while let Some(name) = told.recv().await {
            acknowledged.push(name);
        }
        writer.await.unwrap();
    }
    let graph = call(&serve(&store).await, "read_graph", json!({})).await;
    let graph = graph.structured_content.unwrap();
    let entities = graph["entities"].as_array().unwrap();
    let kept: BTreeSet<_> = entities
        .iter()
        .inspect(|one| assert_eq!(one["observations"][0], one["name"], "whole, or not at all"))
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    for name in &acknowledged {
        assert!(kept.contains(name.as_str()), "{name}");
    }
    assert!(acknowledged.len() >= 90);
}
