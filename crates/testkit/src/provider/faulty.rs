//! A provider that goes wrong in every way, byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{chunk, completion, gemini, last, messages};

/// A provider on a free port of this machine that speaks what the path says: chat completions,
/// Anthropic's Messages or Gemini. The name of the model says how it goes wrong:
///
/// | model | answer |
/// |---|---|
/// | `hang` | it reads the request, and says nothing |
/// | `hang-headers`, `hang-middle` | nothing behind the headers, or behind a first token |
/// | `reset`, `reset-headers`, `reset-middle` | the connection is reset, there |
/// | `close`, `close-headers`, `close-middle` | it is closed, there |
/// | `status-N`, `status-N-later` | that status; `later` with `Retry-After: 60` |
/// | `no-http`, `no-json`, `no-sse` | another protocol; braces and no JSON; a page of HTML |
/// | `drip`, `drip-middle` | a byte every 20 ms of an answer without end, or behind a first token |
/// | `error`, `error-middle` | 200, and an error as the answer or event, or behind a first token |
/// | `endless` | pieces without end, or an answer without end |
/// | `huge` | an event, or an answer, of more bytes than anybody wants |
/// | `good` | `pong`: a thousand tokens in and a thousand out |
///
/// What comes before a dot in the name is anybody's.
#[derive(Debug, Clone)]
pub struct Faulty {
    /// Its address, without `/v1`.
    pub url: String,
    open: Arc<AtomicUsize>,
}

impl Faulty {
    /// Starts one.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let open = Arc::new(AtomicUsize::new(0));
        let faulty = Self { url, open: Arc::clone(&open) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // How the other side takes it is what the test looks at.
                    let _: std::io::Result<()> = answer(stream).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(faulty)
    }

    /// Returns how many connections to it are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// What is asked: how to go wrong, and in which words.
struct Asked {
    fault: String,
    speaks: Speaks,
    streams: bool,
}

#[derive(Clone, Copy)]
enum Speaks {
    Chat,
    Messages,
    Gemini,
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream).await?;
    let (fault, place) = asked.fault.split_once('-').unwrap_or((&asked.fault, ""));
    match (fault, place) {
        ("no", "http") => return stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
        ("status", status) => return stream.write_all(refused(status).as_bytes()).await,
        ("huge", _) => return huge(&mut stream, &asked).await,
        (_, "headers") => stream.write_all(head(asked.streams).as_bytes()).await?,
        (_, "middle") | ("endless" | "drip", _) => {
            stream.write_all(head(asked.streams).as_bytes()).await?;
            if fault != "drip" || place == "middle" {
                stream.write_all(beginning(&asked).as_bytes()).await?;
            }
        }
        _ => {}
    }
    match fault {
        "hang" => closed(&mut stream).await,
        "close" => Ok(()),
        // Without what is left to send: the other side reads that the connection was reset.
        "reset" => Ok(set_socket_linger(stream.get_ref(), Some(Duration::ZERO))?),
        "drip" => drip(&mut stream, &asked).await,
        "endless" => loop {
            stream.write_all(more(&asked).as_bytes()).await?;
            if asked.streams {
                // As fast as a model might.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        },
        "error" if place == "middle" => stream.write_all(error(asked.speaks).as_bytes()).await,
        "error" if asked.streams => whole(&mut stream, true, &error(asked.speaks)).await,
        "error" => whole(&mut stream, false, &json!({ "error": refusal() }).to_string()).await,
        "no" if place == "sse" => whole(&mut stream, false, "<html>Welcome</html>").await,
        "no" if asked.streams => whole(&mut stream, true, "data: { pong\n\n").await,
        "no" => whole(&mut stream, false, "{ pong").await,
        _ if asked.streams => whole(&mut stream, true, &frames(asked.speaks).concat()).await,
        _ => whole(&mut stream, false, &said(asked.speaks).to_string()).await,
    }
}

/// Reads a request and what it asks for.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Asked> {
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    let body: Value = serde_json::from_slice(&body)?;
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (name, speaks) = match path.split_once("/models/") {
        Some((_, call)) => (call.split(':').next().unwrap_or_default(), Speaks::Gemini),
        None if path.ends_with("/messages") => {
            (body["model"].as_str().unwrap_or_default(), Speaks::Messages)
        }
        None => (body["model"].as_str().unwrap_or_default(), Speaks::Chat),
    };
    let streams = body["stream"] == true || path.contains("streamGenerateContent");
    let fault = name.rsplit('.').next().unwrap_or_default().to_owned();
    Ok(Asked { fault, speaks, streams })
}

fn head(streams: bool) -> String {
    let kind = if streams { "text/event-stream" } else { "application/json" };
    // Without a length: it ends with the connection, or it should have had one.
    let length = if streams { "" } else { "content-length: 100000000\r\n" };
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}connection: close\r\n\r\n")
}

async fn whole(
    stream: &mut BufReader<TcpStream>,
    streams: bool,
    body: &str,
) -> std::io::Result<()> {
    let kind = if streams { "text/event-stream" } else { "application/json" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

fn refused(status: &str) -> String {
    let (code, later) = status.split_once('-').map_or((status, ""), |(code, later)| (code, later));
    let later = if later.is_empty() { "" } else { "retry-after: 60\r\n" };
    let body = json!({ "error": refusal() }).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {code} Refused\r\n{later}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn refusal() -> Value {
    json!({ "message": "not now", "type": "overloaded_error", "code": 503, "status": "UNAVAILABLE" })
}

fn error(speaks: Speaks) -> String {
    match speaks {
        Speaks::Messages => {
            let error = json!({ "type": "error", "error": refusal() });
            format!("event: error\ndata: {error}\n\n")
        }
        Speaks::Chat | Speaks::Gemini => format!("data: {}\n\n", json!({ "error": refusal() })),
    }
}

/// Returns the frames of a good stream.
fn frames(speaks: Speaks) -> Vec<String> {
    let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
    match speaks {
        Speaks::Chat => {
            let pieces = ["po", "ng"].map(|piece| chunk(&json!({ "content": piece }), None));
            let end = [chunk(&json!({}), Some("stop")), format!("data: {}\n\n", last()).into()];
            let end = end.into_iter().chain(["data: [DONE]\n\n".into()]);
            pieces.into_iter().chain(end).map(text).collect()
        }
        Speaks::Messages => {
            messages::frames(&[json!({ "type": "text", "text": "pong" })], "end_turn", "ping")
        }
        Speaks::Gemini => {
            let piece = |text: &str, end| gemini::piece(&[json!({ "text": text })], end);
            let pieces = [piece("po", None), piece("ng", None), piece("", Some("STOP"))];
            pieces.map(|piece| format!("data: {piece}\n\n")).to_vec()
        }
    }
}

/// Returns a good answer.
fn said(speaks: Speaks) -> Value {
    match speaks {
        Speaks::Chat => {
            let message = json!({ "role": "assistant", "content": "pong" });
            completion(json!({ "index": 0, "message": message, "finish_reason": "stop" }))
        }
        Speaks::Messages => {
            messages::whole(vec![json!({ "type": "text", "text": "pong" })], "end_turn")
        }
        Speaks::Gemini => gemini::piece(&[json!({ "text": "pong" })], Some("STOP")),
    }
}

/// Returns what comes up to a first token.
fn beginning(asked: &Asked) -> String {
    if !asked.streams {
        return said(asked.speaks).to_string()[..20].to_owned();
    }
    let mut frames = frames(asked.speaks);
    let first = frames.iter().position(|frame| frame.contains("\"po\"")).unwrap_or_default();
    frames.truncate(first + 1);
    frames.concat()
}

/// Returns a piece that may come as often as one likes.
fn more(asked: &Asked) -> String {
    match asked.streams {
        false => " ".repeat(1 << 18),
        true => {
            let frames = frames(asked.speaks);
            frames.into_iter().find(|frame| frame.contains("\"po\"")).unwrap_or_default()
        }
    }
}

/// Sends what never becomes an answer, or an event, a byte at a time.
async fn drip(stream: &mut BufReader<TcpStream>, asked: &Asked) -> std::io::Result<()> {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let bytes: &[u8] = if asked.streams { b": still here\n" } else { b" " };
    for byte in bytes.iter().cycle() {
        pause.tick().await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

/// Sends one event, or one answer, of 20 MiB.
async fn huge(stream: &mut BufReader<TcpStream>, asked: &Asked) -> std::io::Result<()> {
    stream.write_all(head(asked.streams).as_bytes()).await?;
    stream.write_all(if asked.streams { b"data: \"" } else { b"\"" }).await?;
    for _ in 0..20 {
        stream.write_all(&vec![b'x'; 1 << 20]).await?;
    }
    closed(stream).await
}

/// Says nothing until the other side goes away.
async fn closed(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}
