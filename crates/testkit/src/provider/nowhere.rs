//! An address that is never reached.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Listens, and lets nobody in: who connects waits, as for a machine that is switched off.
///
/// Its queue of one is full, and Linux drops what comes to a full queue.
#[derive(Debug)]
pub struct Nowhere {
    /// The address, without `/v1`.
    pub url: String,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Nowhere {
    /// Starts one.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        let patience = Duration::from_millis(100);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            queue.push(stream?);
        }
        Ok(Self { url: format!("http://{address}"), _listener: listener, _queue: queue })
    }
}
