//! `baton ask`: one question, the whole system in this process.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use proto::orchestrator::event::Kind;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{AskRequest, Citation, Completed};
use runtime::metrics::Metrics;
use types::{CallContext, NanoUsd, TenantId, UserId};

use crate::cli::{Common, Failure};
use crate::commands::{configuration, folder};
use crate::discover;
use crate::node::{Config, Node};

pub(crate) async fn run(
    common: Common,
    question: String,
    docs: Option<PathBuf>,
    route: String,
) -> Result<(), Failure> {
    let mut config = configuration(&common)?;
    if common.print_config {
        println!("{}", runtime::config::to_text(&config)?);
        return Ok(());
    }
    // Whoever asks wants the answer; faults are told by the answer itself.
    if config.telemetry.log == runtime::telemetry::Telemetry::default().log {
        config.telemetry.log = "warn".to_owned();
    }
    let _flush = runtime::telemetry::init("baton", &config.telemetry)?;
    let started = Instant::now();
    discover::local_servers(&mut config);
    let (run, done) = ask(&config, question, docs, route).await?;
    if common.json {
        println!("{}", gateway::answer(&run, &done));
    } else {
        print(&done, started);
    }
    Ok(())
}

async fn ask(
    config: &Config,
    question: String,
    docs: Option<PathBuf>,
    route: String,
) -> Result<(String, Completed), Failure> {
    let node = Node::start(config, &Metrics::default()).await?;
    let local = |fault: types::IdError| anyhow!(fault);
    let tenant = TenantId::new("local").map_err(local)?;
    let context = CallContext::new(tenant, UserId::new("local").map_err(local)?);
    if let Some(docs) = docs {
        let done = folder::ingest(&docs, node.peers.retriever.clone(), &context).await?;
        let (changed, unchanged) = (done.changed, done.unchanged);
        eprintln!("{}: {changed} files ingested, {unchanged} unchanged", docs.display());
        for refused in done.refused {
            eprintln!("refused {refused}");
        }
    }
    let request = AskRequest { question, route, ..AskRequest::default() };
    let request = runtime::context::request(&context, request);
    let reply = OrchestratorServiceClient::new(node.peers.orchestrator).ask(request).await;
    let told = |status: tonic::Status| anyhow!("{}", status.message());
    let mut events = reply.map_err(told)?.into_inner();
    while let Some(reply) = events.message().await.map_err(told)? {
        let Some(event) = reply.event else { continue };
        match event.kind {
            Some(Kind::Completed(done)) => return Ok((event.run_id, done)),
            Some(Kind::Failed(failed)) => {
                return Err(match failed.code.as_str() {
                    "budget_exceeded" | "denied" => Failure::refused(failed.message),
                    _ => anyhow!(failed.message).into(),
                });
            }
            _ => {}
        }
    }
    Err(anyhow!("the run ended early").into())
}

fn print(done: &Completed, started: Instant) {
    println!("{}\n", done.answer.trim());
    if !done.found.is_empty() {
        println!("What comes nearest:");
    }
    for citation in done.citations.iter().chain(&done.found) {
        println!("{}", place(citation));
    }
    println!(
        "\nroute {} · provider {} · {} + {} tokens{} · {} USD · {:.1} s",
        done.route,
        if done.provider.is_empty() { "none" } else { &done.provider },
        done.input_tokens,
        done.output_tokens,
        if done.estimated { " (estimated)" } else { "" },
        NanoUsd::new(done.cost_nanos),
        started.elapsed().as_secs_f64(),
    );
    for failure in &done.failures {
        println!("failed before: {failure}");
    }
    if done.provider == "extractive" && done.failures.is_empty() {
        println!(
            "No language model is connected: these are sentences of your documents. Connect one: start Ollama, or see docs/configuration.md."
        );
    }
}

fn place(citation: &Citation) -> String {
    let (mark, first, last) = match citation.start_page {
        0 => (":", citation.start_line, citation.end_line),
        page => (" p. ", page, citation.end_page),
    };
    let last = if first == last { String::new() } else { format!("–{last}") };
    let heading = citation.headings.join(" › ");
    format!("[{}] {}{mark}{first}{last}  {heading}", citation.number, citation.source)
}
