//! A server that is asked often, over connections that are driven by whoever waits for an answer.
//!
//! A client that gives each connection a task of its own hands over each chunk of a body from that task to
//! the one that reads, one at a time: two switches of tasks a chunk. Here the reader drives the connection
//! itself, and gets all that has come at once.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use runtime::repoll::Repoll;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tower::ServiceExt as _;
use url::{Position, Url};

use crate::{Outgoing, Resolver};

/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(90);

/// How many pieces of a body are returned at once.
const AT_ONCE: usize = 64;

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to it.
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There was no connection in time.
    #[error("no connection within {} ms", .0.as_millis())]
    Late(Duration),
    /// The connection broke before the answer was whole.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

/// A server, and the connections to it.
pub struct Server {
    connector: HttpsConnector<HttpConnector<Resolver>>,
    origin: Uri,
    /// As the header that names it.
    host: HeaderValue,
    patience: Duration,
    idle: Arc<Idle>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Server {
    /// Prepares the way to the server of `url`, that is its scheme, host and port, where `resolver` lets it
    /// lead; a connection has to stand within `patience`.
    pub(crate) fn new(resolver: Resolver, url: &Url, patience: Duration) -> Result<Self, Error> {
        let fault = |fault: Box<dyn std::error::Error + Send + Sync>| Error::Connect(fault);
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let origin = Uri::builder().scheme(url.scheme()).authority(host).path_and_query("/");
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_nodelay(true);
        // Of several addresses each has its part of it.
        http.set_connect_timeout(Some(patience));
        // A server that is gone without a word is noticed within a minute.
        http.set_keepalive(Some(Duration::from_secs(15)));
        http.set_keepalive_interval(Some(Duration::from_secs(15)));
        http.set_keepalive_retries(Some(3));
        let tls = tls(url.scheme() == "https").map_err(|error| fault(error.into()))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Ok(Self {
            connector: connector.enable_http1().wrap_connector(http),
            origin: origin.build().map_err(|error| fault(error.into()))?,
            host: HeaderValue::from_str(host).map_err(|error| fault(error.into()))?,
            patience,
            idle: Arc::default(),
        })
    }

    /// Sends a request, whose address is a path, and returns the answer once its headers have come.
    ///
    /// Dropped before, and so is the answer before its end, the connection is closed.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn send(&self, mut request: Request<Outgoing>) -> Result<Response<Answer>, Error> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        while let Some(connection) = self.idle.take() {
            match connection.ask(request, &self.idle).await {
                Ok(answer) => return Ok(answer),
                // It was closed meanwhile, and nothing was sent.
                Err(mut fault) => match fault.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Error::Broken(fault.into_error())),
                },
            }
        }
        let connection = tokio::time::timeout(self.patience, self.connect()).await;
        let connection = connection.map_err(|_| Error::Late(self.patience))??;
        let asked = connection.ask(request, &self.idle).await;
        asked.map_err(|fault| Error::Broken(fault.into_error()))
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let stream = self.connector.clone().oneshot(self.origin.clone()).await;
        let stream = stream.map_err(Error::Connect)?;
        let (sender, driver) = http1::handshake(stream).await.map_err(Error::Broken)?;
        let (driver, repoll) = (Some(Box::pin(driver)), Repoll::default());
        Ok(Connection { sender, driver, repoll, since: Instant::now() })
    }
}

/// Returns how certificates are checked: as this machine says. Without TLS that takes none of them.
fn tls(is_used: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match is_used {
        true => {
            let verifier = Arc::new(Verifier::new(provider)?);
            config.dangerous().with_custom_certificate_verifier(verifier)
        }
        false => config.with_root_certificates(RootCertStore::empty()),
    };
    Ok(config.with_no_client_auth())
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Writes and reads what there is to write and to read.
type Driver = Pin<Box<http1::Connection<Stream, Outgoing>>>;

struct Connection {
    sender: SendRequest<Outgoing>,
    /// None once it is over.
    driver: Option<Driver>,
    /// What the driver wakes.
    repoll: Repoll,
    /// When it had nothing to do any more.
    since: Instant,
}

impl Connection {
    /// Tells whether it takes a request. Until it has one it wakes nobody.
    fn is_free(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    async fn ask(
        mut self,
        request: Request<Outgoing>,
        idle: &Arc<Idle>,
    ) -> Result<Response<Answer>, Box<TrySendError<Request<Outgoing>>>> {
        let mut asked = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|context| {
            let Self { driver, repoll, .. } = &mut self;
            repoll.poll(context, |context| {
                drive(driver, context);
                asked.as_mut().poll(context)
            })
        });
        let (parts, body) = answer.await.map_err(Box::new)?.into_parts();
        let idle = Arc::clone(idle);
        let answer = Answer { body, connection: Some(self), fault: None, idle };
        Ok(Response::from_parts(parts, answer))
    }
}

/// Drives a connection, and forgets the driver of one that is over.
fn drive(driver: &mut Option<Driver>, context: &mut Context<'_>) {
    // What went wrong is told to whoever asked, and a request that was not sent comes back: with the driver.
    driver.take_if(|driver| driver.as_mut().poll(context).is_ready());
}

/// The body of an answer, as it comes.
pub struct Answer {
    body: Incoming,
    /// None once nothing more comes.
    connection: Option<Connection>,
    /// What ended it, behind pieces that came before.
    fault: Option<Error>,
    idle: Arc<Idle>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Answer {
    /// Waits for more of the body and returns all pieces that have come by then, at most 64; none at its
    /// end. Dropped before, it loses nothing.
    ///
    /// # Errors
    /// [`Error::Broken`] once; nothing more comes then.
    pub async fn more(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        poll_fn(|context| self.poll_more(context)).await
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Vec<Bytes>>, Error>> {
        let mut come = Vec::new();
        while come.len() < AT_ONCE {
            let Some(connection) = &mut self.connection else { break };
            let Connection { driver, repoll, .. } = connection;
            let frame = repoll.poll(context, |context| {
                let frame = Pin::new(&mut self.body).poll_frame(context);
                if frame.is_ready() {
                    return frame;
                }
                drive(driver, context);
                Pin::new(&mut self.body).poll_frame(context)
            });
            match frame {
                Poll::Pending if come.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => come.extend(frame.into_data()),
                Poll::Ready(Some(Err(fault))) => {
                    self.connection = None;
                    self.fault = Some(Error::Broken(fault));
                }
                Poll::Ready(None) => {
                    let whole = self.connection.take();
                    if let Some(mut connection) = whole
                        && connection.is_free()
                    {
                        self.idle.put(connection);
                    }
                }
            }
        }
        Poll::Ready(match self.fault.take_if(|_| come.is_empty()) {
            Some(fault) => Err(fault),
            None => Ok((!come.is_empty()).then_some(come)),
        })
    }
}

impl Drop for Answer {
    /// What ends just now is read to its end, so that its connection serves again; any other is closed.
    fn drop(&mut self) {
        if self.connection.is_some() {
            let _ = self.poll_more(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// The connections that have nothing to do.
#[derive(Default)]
struct Idle(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The one that has waited longest comes first.
    connections: VecDeque<Connection>,
    /// Somebody closes those that have waited too long.
    is_swept: bool,
}

impl Idle {
    /// Returns one that still stands: who has nothing to do is not told that its server closed it.
    fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.waiting().connections.pop_back()?;
            if connection.since.elapsed() < IDLE && connection.is_free() {
                return Some(connection);
            }
        }
    }

    fn put(self: &Arc<Self>, mut connection: Connection) {
        // Without a runtime the process is at its end.
        let Ok(runtime) = Handle::try_current() else { return };
        connection.since = Instant::now();
        let mut waiting = self.waiting();
        waiting.connections.push_back(connection);
        if !std::mem::replace(&mut waiting.is_swept, true) {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes those that have waited too long at `now`; tells whether there are others.
    fn close(&self, now: Instant) -> bool {
        let mut waiting = self.waiting();
        let too_long = |one: &Connection| now.saturating_duration_since(one.since) >= IDLE;
        let count = waiting.connections.partition_point(too_long);
        waiting.connections.drain(..count);
        waiting.is_swept = !waiting.connections.is_empty();
        waiting.is_swept
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // It is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have waited too long, as long as there are any.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let others = idle.upgrade().is_some_and(|idle| idle.close(Instant::now()));
        if !others {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::Reach;

    /// What a server does, a word each time that it is asked.
    enum Does {
        /// Writes this.
        Says(&'static str),
        /// Writes this and closes the connection.
        Ends(&'static str),
    }

    /// Starts a server, and tells of each connection which one it is and of each request that comes there.
    async fn serve(does: Vec<Does>) -> (Server, mpsc::UnboundedReceiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (asked, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut does = does.into_iter();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                while stream.read(&mut request).await.unwrap_or(0) > 0 {
                    asked.send(number).unwrap();
                    match does.next().unwrap() {
                        Does::Says(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                        Does::Ends(text) => {
                            stream.write_all(text.as_bytes()).await.unwrap();
                            break;
                        }
                    }
                }
            }
        });
        let resolver = Resolver::system(Reach::Anywhere);
        let server = Server::new(resolver, &url.parse().unwrap(), Duration::from_secs(10));
        (server.unwrap(), told)
    }

    fn get() -> Request<Outgoing> {
        Request::get("/v1/x").body(Outgoing::default()).unwrap()
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    #[tokio::test]
    async fn pieces_that_come_together_are_returned_together() {
        let pieces = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n";
        let (server, _told) = serve(vec![Does::Says(pieces), Does::Says(WHOLE)]).await;
        let mut answer = server.send(get()).await.unwrap().into_body();
        assert_eq!(answer.more().await.unwrap().unwrap(), ["a", "bc", "d"]);
        assert!(answer.more().await.unwrap().is_none() && answer.more().await.unwrap().is_none());
        let mut next = server.send(get()).await.unwrap().into_body();
        assert_eq!(next.more().await.unwrap().unwrap(), ["ok"]);
    }

    /// Waits until the server's end of an idle connection was heard of.
    async fn closed(server: &Server) {
        while let Some(connection) = server.idle.take() {
            server.idle.put(connection);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_serves_again_when_its_answer_is_whole_and_the_server_keeps_it() {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        let does = [
            Does::Says(WHOLE),
            Does::Says(half),
            Does::Ends(WHOLE),
            Does::Says(WHOLE),
            Does::Ends("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nend"),
            Does::Says("HTTP/1.1 204 No Content\r\n\r\n"),
        ];
        let (server, mut told) = serve(does.into()).await;
        let mut numbers = Vec::new();
        for (wanted, is_read) in
            [("ok", true), ("half", false), ("ok", true), ("ok", true), ("end", true), ("", true)]
        {
            let mut answer = server.send(get()).await.unwrap().into_body();
            let come = answer.more().await.unwrap().unwrap_or_default().concat();
            assert_eq!(come, wanted.as_bytes());
            assert!(!is_read || answer.more().await.unwrap().is_none());
            numbers.push(told.recv().await.unwrap());
            if numbers.len() == 3 {
                closed(&server).await;
            }
        }
        assert_eq!(numbers, [0, 0, 1, 2, 2, 3]);
    }

    #[tokio::test]
    async fn a_request_comes_back_from_a_connection_that_was_closed_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/").parse().unwrap();
        let resolver = Resolver::system(Reach::Anywhere);
        let server = Server::new(resolver, &url, Duration::from_secs(10)).unwrap();
        let close = async {
            for _ in 0..2 {
                drop(listener.accept().await.unwrap());
            }
        };
        let connect = async {
            let connection = server.connect().await.unwrap();
            // What is closed after it is heard of after it.
            let mut after = TcpStream::connect(address).await.unwrap();
            assert_eq!(after.read(&mut [0]).await.unwrap(), 0);
            connection
        };
        let ((), connection) = tokio::join!(close, connect);
        let asked = connection.ask(get(), &server.idle);
        let asked = tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
        assert!(asked.unwrap_err().take_message().is_some());
    }

    #[tokio::test]
    async fn what_came_before_a_connection_broke_is_heard_first() {
        let (server, _told) =
            serve(vec![Does::Ends("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")]).await;
        let mut answer = server.send(get()).await.unwrap().into_body();
        assert_eq!(answer.more().await.unwrap().unwrap(), ["half"]);
        assert!(matches!(answer.more().await, Err(Error::Broken(_))));
        assert!(answer.more().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_connection_that_waits_too_long_is_closed() {
        let (server, _told) = serve(vec![Does::Says(WHOLE)]).await;
        let mut answer = server.send(get()).await.unwrap().into_body();
        while answer.more().await.unwrap().is_some() {}
        let now = Instant::now();
        assert!(server.idle.close(now) && server.idle.waiting().connections.len() == 1);
        assert!(!server.idle.close(now + IDLE * 2));
        let waiting = server.idle.waiting();
        assert!(waiting.connections.is_empty() && !waiting.is_swept);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_not_asked() {
        let url = Url::parse("http://127.0.0.1:1/").unwrap();
        let resolver = Resolver::system(Reach::Anywhere);
        let server = Server::new(resolver, &url, Duration::from_secs(10)).unwrap();
        let (body, sent) = Outgoing::new("x".into());
        let refused = server.send(Request::post("/").body(body).unwrap()).await;
        assert!(matches!(refused, Err(Error::Connect(_))) && !sent.is_so());
    }
}
