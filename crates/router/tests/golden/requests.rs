//! Clients' requests, and what each provider is sent of them.

use std::fmt::Write as _;

use crate::fixture::{Fixture, compare, files};
use crate::router_under_test::{CLIENTS, Router, kind};
use crate::upstream::{self, Upstream};

#[tokio::test]
async fn requests_in_chat_completions() {
    every("chat").await;
}

#[tokio::test]
async fn requests_in_messages() {
    every("messages").await;
}

#[tokio::test]
async fn requests_in_responses() {
    every("responses").await;
}

async fn every(client: &str) {
    let (_, dialect) = CLIENTS.into_iter().find(|(name, _)| *name == client).unwrap();
    let mut providers = Vec::new();
    for name in ["openai", "anthropic", "gemini"] {
        providers.push((name, provider(name).await));
    }
    for file in files(&format!("requests/{client}"), "json") {
        let body = std::fs::read(&file).unwrap();
        let mut told = String::new();
        for (name, (upstream, router)) in &mut providers {
            let sent = match (router.complete(dialect, &body).await, upstream.asked.try_recv()) {
                (Err(refused), Err(_)) => refused,
                (_, Ok(sent)) => format!("{sent:#}"),
                (Ok(_), Err(_)) => panic!("answered without being asked"),
            };
            writeln!(told, "## {name}\n{sent}").unwrap();
        }
        compare(&file, told.trim_end());
    }
}

/// Starts a provider that says something plain, and a router before it.
async fn provider(name: &str) -> (Upstream, Router) {
    let answers = files(&format!("answers/{name}"), "http");
    let plain = Fixture::read(answers.iter().find(|file| file.ends_with("plain.http")).unwrap());
    let answers = [("m".to_owned(), upstream::said(&plain, usize::MAX))].into();
    let upstream = upstream::start(answers).await;
    let router = Router::start(kind(name), &upstream.url, ["m".to_owned()].into_iter()).await;
    (upstream, router)
}
