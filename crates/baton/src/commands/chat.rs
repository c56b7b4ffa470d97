//! `baton chat`: a conversation with a running system, whose model may call tools.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use globset::Glob;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::cli::{Common, Failure};
use crate::commands::client::Server;

/// How long an answer may take, with all of its calls.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a conversation is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Chat {
    /// What to say; without it every line of standard input is said
    message: Option<String>,
    /// A route or a model
    #[arg(long, default_value = "auto")]
    model: String,
    /// Tools that the model may call, such as 'files__*'; may be given again
    #[arg(long, value_name = "GLOB")]
    tools: Vec<String>,
    /// Nothing of it may leave the machine
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(common: &Common, chat: Chat) -> Result<(), Failure> {
    let tools = tools(&chat.server, &chat.tools).await?;
    let mut messages = Vec::new();
    if let Some(message) = &chat.message {
        return say(common, &chat, &tools, &mut messages, message).await;
    }
    let prompts = std::io::stdin().is_terminal();
    loop {
        if prompts {
            eprint!("> ");
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).context("standard input")?;
        if read == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        match say(common, &chat, &tools, &mut messages, line.trim()).await {
            // Who types may try again.
            Err(failure) if prompts => eprintln!("baton: {failure}"),
            said => said?,
        }
    }
}

/// Says one thing and prints the answer as it comes.
async fn say(
    common: &Common,
    chat: &Chat,
    tools: &[Value],
    messages: &mut Vec<Value>,
    said: &str,
) -> Result<(), Failure> {
    let before = messages.len();
    messages.push(json!({ "role": "user", "content": said }));
    let mut body = json!({ "model": chat.model, "messages": messages, "stream": !common.json });
    if !tools.is_empty() {
        body["tools"] = tools.into();
    }
    let answered = async {
        let mut request = chat.server.request(Method::POST, "/v1/chat/completions")?;
        if chat.private {
            request = request.header("x-baton-privacy", "private");
        }
        let reply = chat.server.begin(request.timeout(PATIENCE).json(&body)).await?;
        if common.json {
            let answer: Value = reply.json().await.context("the answer is not JSON")?;
            println!("{answer}");
            Ok(answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned())
        } else {
            printed(reply).await
        }
    };
    match answered.await {
        Ok(text) => messages.push(json!({ "role": "assistant", "content": text })),
        Err(failure) => {
            messages.truncate(before);
            return Err(failure);
        }
    }
    Ok(())
}

/// Prints a stream's text as it comes, then which tools were called, and returns the text.
async fn printed(mut reply: Response) -> Result<String, Failure> {
    let gone = |fault: reqwest::Error| anyhow!("the answer broke off: {fault}");
    let (mut buffer, mut text) = (Vec::new(), String::new());
    let mut calls = Value::Null;
    while let Some(bytes) = reply.chunk().await.map_err(gone)? {
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let Ok(chunk) = serde_json::from_slice::<Value>(data) else { continue };
            if let Some(fault) = chunk["error"]["message"].as_str() {
                println!();
                return Err(match chunk["error"]["code"].as_str() {
                    Some("budget_exceeded" | "denied") => Failure::refused(fault),
                    _ => anyhow!("{fault}").into(),
                });
            }
            if let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str() {
                text.push_str(piece);
                print!("{piece}");
                let _ = std::io::stdout().flush();
            }
            if !chunk["baton"].is_null() {
                calls = chunk["baton"].clone();
            }
        }
    }
    println!();
    for call in calls["tool_calls"].as_array().into_iter().flatten() {
        let word = |name: &str| call[name].as_str().unwrap_or_default();
        let (server, name, arguments) = (word("server_label"), word("name"), word("arguments"));
        let (outcome, ms) = (word("outcome"), &call["took_ms"]);
        eprintln!("{server}__{name} {arguments}: {outcome}, {ms} ms");
    }
    if calls["stopped"] == "step_limit" {
        eprintln!("stopped: it may ask for no more calls (orchestrator.tools.steps)");
    }
    Ok(text)
}

/// Returns what a request names of the tools that match `globs`.
async fn tools(server: &Server, globs: &[String]) -> Result<Vec<Value>, Failure> {
    if globs.is_empty() {
        return Ok(Vec::new());
    }
    let list = server.ask(Method::GET, "/api/v1/tools", None).await?;
    let listed: Vec<(&str, &str, &str)> = list["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some((tool["server"].as_str()?, tool["name"].as_str()?, tool["own_name"].as_str()?))
        })
        .collect();
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for glob in globs {
        let matcher = Glob::new(glob).with_context(|| format!("--tools {glob}"))?;
        let matcher = matcher.compile_matcher();
        let of_glob: Vec<_> = listed.iter().filter(|(_, name, _)| matcher.is_match(name)).collect();
        if of_glob.is_empty() {
            return Err(anyhow!("--tools {glob}: no tool of this system matches").into());
        }
        for (server, _, own) in of_glob {
            let names = wanted.entry(server).or_default();
            if !names.contains(own) {
                names.push(own);
            }
        }
    }
    let tool =
        |(server, names)| json!({ "type": "mcp", "server_label": server, "allowed_tools": names });
    Ok(wanted.into_iter().map(tool).collect())
}
