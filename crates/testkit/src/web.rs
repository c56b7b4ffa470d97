//! A site whose pages a test writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A page as it is served.
#[derive(Debug, Clone, Default)]
struct Page {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    body: String,
    /// It waits until it is put again.
    is_held: bool,
}

/// A site on loopback; it ends with this value.
#[derive(Debug)]
pub struct Web {
    /// Where it is, such as `http://127.0.0.1:40123`.
    pub url: String,
    state: Arc<Site>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Site {
    /// By path; what is not there is 404.
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<HashMap<String, usize>>,
    changed: Notify,
}

impl Web {
    /// Starts a site without pages.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Site::default());
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, state, server })
    }

    /// Writes a page of a media type, in place of the one that was there.
    pub fn write(&self, path: &str, media_type: &'static str, body: &str) {
        let header =
            Some((HeaderName::from_static("content-type"), HeaderValue::from_static(media_type)));
        let body = body.to_owned();
        self.put(path, Page { header, body, ..Page::default() });
    }

    /// Leads from a path to an address.
    ///
    /// # Panics
    /// If no header can hold the address.
    #[allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
    pub fn lead(&self, path: &str, to: &str) {
        let header = Some((HeaderName::from_static("location"), to.parse().unwrap()));
        self.put(path, Page { status: StatusCode::FOUND, header, ..Page::default() });
    }

    /// Has whoever asks for a path wait until it is written.
    pub fn hold(&self, path: &str) {
        self.put(path, Page { is_held: true, ..Page::default() });
    }

    /// Returns how often a path was asked for.
    #[must_use]
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.state.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(path).copied().unwrap_or_default()
    }

    /// Waits until a path has been asked for.
    ///
    /// # Panics
    /// If nobody does within a minute.
    #[allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
    pub async fn until_asked(&self, path: &str) {
        let asked = async {
            while self.asked(path) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
    }

    fn put(&self, path: &str, page: Page) {
        self.state
            .pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), page);
        self.state.changed.notify_waiters();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    let path = uri.path();
    *site
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(path.to_owned())
        .or_default() += 1;
    loop {
        let changed = site.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let page = site.pages.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        match page {
            None => return StatusCode::NOT_FOUND.into_response(),
            Some(page) if page.is_held => changed.await,
            Some(Page { status, header, body, .. }) => {
                let mut response = (status, body).into_response();
                if let Some((name, value)) = header {
                    response.headers_mut().insert(name, value);
                }
                return response;
            }
        }
    }
}
