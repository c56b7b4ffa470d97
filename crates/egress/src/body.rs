//! Reads the body of an answer, up to a limit.

use reqwest::Response;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is larger than so many bytes.
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// The connection broke before its end.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
}

/// Returns the body of an answer, of at most `most` bytes. One that says that it is larger is not read at all.
///
/// It waits for as long as the body takes: a deadline is the caller's.
///
/// # Errors
/// [`Unread`].
pub async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let length = response.content_length().unwrap_or_default();
    if usize::try_from(length).map_or(true, |length| length > most) {
        return Err(Unread::TooLarge(most));
    }
    let mut whole = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Unread::Broken)? {
        if piece.len() > most - whole.len() {
            return Err(Unread::TooLarge(most));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Reach, client};

    /// Returns what a server answers that says this and closes the connection.
    async fn answer(said: &'static str) -> Response {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            stream.write_all(said.as_bytes()).await.unwrap();
        });
        client(Reach::Anywhere).build().unwrap().get(url).send().await.unwrap()
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_not_at_all() {
        let counted = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour";
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n";
        let closed = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfour";
        for said in [counted, chunked, closed] {
            for most in [4, 5] {
                assert_eq!(read(answer(said).await, most).await.unwrap(), b"four", "{said}");
            }
            for most in [0, 2, 3] {
                let unread = read(answer(said).await, most).await;
                assert!(matches!(unread, Err(Unread::TooLarge(at)) if at == most), "{said}");
            }
        }
        let empty = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(answer(empty).await, 0).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_body_whose_connection_breaks_is_none() {
        for said in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n",
        ] {
            let unread = read(answer(said).await, 10).await;
            assert!(matches!(unread, Err(Unread::Broken(_))), "{unread:?}");
        }
        // What says that it is too large is not waited for.
        let large = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nfour";
        assert!(matches!(read(answer(large).await, 10).await, Err(Unread::TooLarge(10))));
    }
}
