//! `baton ingest DIR`: a folder's files, to a running system; `baton ingest URL`: what that finds at an address.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Reply, Server};
use super::folder;
use crate::cli::{Common, Failure};

const PATH: &str = "/api/v1/documents";
const JOBS: &str = "/api/v1/ingest";
/// How often a job is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// How long a file waits in all for a system that says to come back later.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where documents go.
#[derive(Debug)]
pub(crate) struct Place {
    /// The default one, when absent.
    pub(crate) collection: Option<String>,
    pub(crate) private: bool,
}

/// Sends every file below `folder` that can be read. One bad file never stops the others; the same
/// again changes nothing. An address is fetched by the system itself.
pub(crate) async fn run(
    common: &Common,
    folder: &Path,
    place: &Place,
    server: &Server,
) -> Result<(), Failure> {
    let address = folder.to_str().filter(|text| text.contains("://"));
    let files = if address.is_some() { Vec::new() } else { folder::files(folder)? };
    if let Some(name) = &place.collection {
        server.ask(Method::POST, "/api/v1/collections", Some(&json!({ "name": name }))).await?;
    }
    if let Some(address) = address {
        return fetch(common, address, place, server).await;
    }
    let bar = folder::bar(files.len())?;
    let (mut changed, mut unchanged, mut refused) = (0, 0, Vec::new());
    for file in files {
        let source = file.display().to_string();
        match tokio::fs::read(&file).await {
            Err(fault) => refused.push(json!({ "source": source, "reason": fault.to_string() })),
            Ok(content) => {
                let reply = put(server, &source, place, content).await?;
                match reply.status {
                    StatusCode::CREATED => changed += 1,
                    StatusCode::OK => unchanged += 1,
                    StatusCode::BAD_REQUEST
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                        refused.push(json!({ "source": source, "reason": reply.told() }));
                    }
                    StatusCode::UNAUTHORIZED
                    | StatusCode::PAYMENT_REQUIRED
                    | StatusCode::FORBIDDEN => {
                        return Err(Failure::refused(reply.told()));
                    }
                    _ => return Err(anyhow::anyhow!("{source}: {}", reply.told()).into()),
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let bad = refused.len();
    if common.json {
        println!("{}", json!({ "changed": changed, "unchanged": unchanged, "refused": refused }));
    } else {
        for one in &refused {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            eprintln!("refused {}: {}", text("source"), text("reason"));
        }
        println!("{changed} files ingested, {unchanged} unchanged, {bad} refused");
    }
    match bad {
        0 => Ok(()),
        bad => Err(anyhow::anyhow!("{bad} of the files were refused").into()),
    }
}

/// Has the system fetch a document in a job, and waits for its end.
async fn fetch(
    common: &Common,
    address: &str,
    place: &Place,
    server: &Server,
) -> Result<(), Failure> {
    let privacy = place.private.then_some("private");
    let job = json!({ "urls": [address], "collection": place.collection, "privacy": privacy });
    let mut job = server.ask(Method::POST, JOBS, Some(&job)).await?;
    let path = format!("{JOBS}/{}", job["id"].as_str().unwrap_or_default());
    while job["state"] != "ended" {
        tokio::time::sleep(LOOK).await;
        job = server.ask(Method::GET, &path, None).await?;
    }
    let document = &job["documents"][0];
    if common.json {
        println!("{document}");
    }
    match document["state"].as_str() {
        Some("done") if common.json => Ok(()),
        Some("done") => {
            println!("{address} ingested");
            Ok(())
        }
        _ => {
            let reason = document["reason"].as_str().unwrap_or("it has left its job");
            Err(anyhow::anyhow!("refused {address}: {reason}").into())
        }
    }
}

/// Sends a file; waits for a system that is busy.
async fn put(
    server: &Server,
    source: &str,
    place: &Place,
    content: Vec<u8>,
) -> Result<Reply, Failure> {
    let content = bytes::Bytes::from(content);
    let mut left = PATIENCE;
    loop {
        let request = server.request(Method::POST, PATH)?;
        let collection = place.collection.as_deref().map(|name| ("collection", name));
        let privacy = place.private.then_some(("privacy", "private"));
        let query: Vec<_> =
            [Some(("source", source)), collection, privacy].into_iter().flatten().collect();
        let request = request.query(&query).body(content.clone());
        let reply = server.send(request).await?;
        let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        match reply.after.map(|after| after.max(Duration::from_secs(1))) {
            Some(after) if busy.contains(&reply.status) && after <= left => {
                left -= after;
                tokio::time::sleep(after).await;
            }
            _ => return Ok(reply),
        }
    }
}

/// `baton search QUERY`: the passages that answer it best, in a running system.
pub(crate) async fn search(
    common: &Common,
    (query, top_k): (String, u32),
    collection: Option<String>,
    server: &Server,
) -> Result<(), Failure> {
    let body = json!({ "query": query, "top_k": top_k, "collection": collection });
    let found = server.ask(Method::POST, "/api/v1/search", Some(&body)).await?;
    if common.json {
        println!("{found}");
        return Ok(());
    }
    let hits = found["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    if hits.is_empty() {
        println!("nothing found");
    }
    for (hit, number) in hits.iter().zip(1..) {
        println!("{}\n", shown(hit, number));
    }
    Ok(())
}

/// Shows a passage by its place and its beginning.
fn shown(hit: &Value, number: usize) -> String {
    let text = |name: &str| hit[name].as_str().unwrap_or_default();
    let headings = hit["headings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let headings = headings.collect::<Vec<_>>().join(" › ");
    let place = match &hit["start_page"] {
        Value::Null => format!("{}:{}", text("source"), hit["start_line"]),
        page => format!("{} p. {page}", text("source")),
    };
    let score = hit["score"].as_f64().unwrap_or_default();
    let lines: Vec<_> = text("text").lines().filter(|line| !line.trim().is_empty()).collect();
    let more = if lines.len() > LINES { "\n   …" } else { "" };
    let lines: String =
        lines.iter().take(LINES).map(|line| format!("\n   {}", cut(line))).collect();
    format!("{number}. {place}  {headings}  ({score:.2}){lines}{more}")
}

/// How much of a passage is shown.
const LINES: usize = 4;
const WIDE: usize = 110;

fn cut(line: &str) -> String {
    // What would change the terminal is shown as nothing.
    let line: String = line.trim_end().chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(WIDE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
