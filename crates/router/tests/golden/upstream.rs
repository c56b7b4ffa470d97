//! A provider that says what it was told to, byte for byte.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::fixture::Fixture;

/// What it says, by the model that is asked.
pub(crate) type Answers = HashMap<String, Vec<u8>>;

pub(crate) struct Upstream {
    /// With `/v1`.
    pub(crate) url: String,
    /// The bodies that it was sent.
    pub(crate) asked: mpsc::UnboundedReceiver<Value>,
}

/// Starts one.
pub(crate) async fn start(answers: Answers) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answers = Arc::new(answers);
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&answers), sender.clone()));
        }
    });
    Upstream { url, asked }
}

async fn answer(mut stream: TcpStream, answers: Arc<Answers>, asked: mpsc::UnboundedSender<Value>) {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {
        let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        // The client says how long its body is; JSON says itself when it is whole.
        if let Ok(body) = serde_json::from_slice::<Value>(&read[head + 4..]) {
            let said = &answers[&model(&read[..head], &body)];
            // Who does not want to know is not told.
            let _ = asked.send(body);
            let _ = stream.write_all(said).await;
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Returns who is asked: Gemini's models stand in the address.
fn model(head: &[u8], body: &Value) -> String {
    let head = String::from_utf8_lossy(head);
    let path = head.split_once("/models/").and_then(|(_, path)| path.split_once(':'));
    path.map_or_else(|| body["model"].as_str().unwrap().to_owned(), |(model, _)| model.to_owned())
}

/// Returns everything that goes over the wire, in pieces of `size` bytes: a chunk of HTTP is a piece to its reader, however the
/// network cuts it.
pub(crate) fn said(fixture: &Fixture, size: usize) -> Vec<u8> {
    let mut said = format!(
        "HTTP/1.1 {} Said\r\ncontent-type: {}\r\n{}transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        fixture.status, fixture.content_type, fixture.headers
    )
    .into_bytes();
    for piece in fixture.body.chunks(size.max(1)) {
        said.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        said.extend(piece);
        said.extend(b"\r\n");
    }
    if !fixture.breaks {
        said.extend(b"0\r\n\r\n");
    }
    said
}
