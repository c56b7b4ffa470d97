//! Files that are fetched from addresses which users name: from public ones, and from networks that the operator lists.

use std::time::Duration;

use bytes::Bytes;
use egress::Reach;
use egress::body::Unread;
use encoding_rs::{Encoding, UTF_8};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use types::Privacy;

use crate::config::Fetch;
use crate::parse::ending_type;
use crate::{Config, Error};

/// So often one address may lead to another.
const REDIRECTS: usize = 5;
/// So long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What fetches files.
#[derive(Debug)]
pub(crate) struct Fetcher {
    public: Way,
    private: Way,
    deadline_ms: u64,
    max_bytes: usize,
}

/// A client, and where it may connect to.
#[derive(Debug)]
struct Way {
    reach: Reach,
    client: Client,
    /// What an address is that is out of reach.
    refusal: &'static str,
}

/// A file as it was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) media_type: String,
    pub(crate) content: Bytes,
}

impl Fetcher {
    /// Makes the clients; they connect when they are needed.
    ///
    /// # Errors
    /// If there are no certificates to trust.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let Fetch { public, local_networks, deadline_ms } = config.fetch.clone();
        let listed = || local_networks.clone().into();
        let open = match public {
            true => Reach::Public(listed()),
            false => Reach::Listed(listed()),
        };
        let refusal = match public {
            true => "its address is not public, nor in one of retriever.fetch.local_networks",
            false => "its address is in none of retriever.fetch.local_networks",
        };
        let closed = "it is private, and its address is in none of retriever.fetch.local_networks";
        let way = |reach: Reach, refusal| {
            let client = egress::client(reach.clone())
                .connect_timeout(CONNECT)
                .user_agent(concat!("baton/", env!("CARGO_PKG_VERSION")))
                .build()?;
            Ok::<_, reqwest::Error>(Way { reach, client, refusal })
        };
        Ok(Self {
            public: way(open, refusal)?,
            private: way(Reach::Listed(listed()), closed)?,
            deadline_ms,
            max_bytes: config.max_document_bytes,
        })
    }

    /// Fetches a file. What is private is fetched from listed networks alone, as the request says what is asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the reason why there is none, which names the address.
    pub(crate) async fn fetch(&self, privacy: Privacy, source: &str) -> Result<Fetched, Error> {
        let way = match privacy {
            Privacy::Public => &self.public,
            Privacy::Private => &self.private,
        };
        let patience = Duration::from_millis(self.deadline_ms);
        let fetched = tokio::time::timeout(patience, self.follow(way, address(source)?)).await;
        let late = |_| invalid(format!("{source} took more than {} ms", self.deadline_ms));
        fetched.map_err(late)?
    }

    async fn follow(&self, way: &Way, mut url: Url) -> Result<Fetched, Error> {
        let first = url.clone();
        for _ in 0..=REDIRECTS {
            let refused = || invalid(format!("{url} is not fetched: {}", way.refusal));
            way.reach.check(&url).map_err(|_| refused())?;
            let reply = way.client.get(url.clone()).send().await.map_err(|fault| {
                match egress::is_out_of_reach(&fault) {
                    true => refused(),
                    false => invalid(format!("{url}: {}", told(&fault))),
                }
            })?;
            let next = reply.headers().get(LOCATION).filter(|_| reply.status().is_redirection());
            let Some(next) = next else { return self.read(&url, reply).await };
            let next = next.to_str().ok().and_then(|next| url.join(next).ok());
            let next = next.ok_or_else(|| invalid(format!("{url} leads to what is no address")))?;
            check(&next).map_err(|fault| {
                invalid(format!("{url} leads to what cannot be fetched: {fault}"))
            })?;
            url = next;
        }
        Err(invalid(format!("{first} leads elsewhere more than {REDIRECTS} times")))
    }

    async fn read(&self, url: &Url, reply: Response) -> Result<Fetched, Error> {
        if reply.status() != StatusCode::OK {
            return Err(invalid(format!("{url} answered {}", reply.status())));
        }
        let headers = reply.headers().clone();
        if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(invalid(format!("{url} is encoded as {coding:?}, which nobody asked for")));
        }
        let content = egress::body::read(reply, self.max_bytes).await;
        let content = content.map_err(|fault| match fault {
            Unread::TooLarge(most) => {
                invalid(format!("{url} has more than the {most} bytes that are allowed"))
            }
            Unread::Broken(fault) => invalid(format!("{url}: {}", told(&fault))),
        })?;
        Ok(typed(url, &headers, content.into()))
    }
}

/// Reads an address that may be fetched.
///
/// # Errors
/// [`Error::Invalid`] if it is another.
pub(crate) fn address(source: &str) -> Result<Url, Error> {
    let url = Url::parse(source).map_err(|fault| fault.to_string());
    let checked = url.and_then(|url| check(&url).map(|()| url).map_err(str::to_owned));
    checked.map_err(|fault| invalid(format!("{source:?} cannot be fetched: {fault}")))
}

fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http and https are");
    }
    match url.username().is_empty() && url.password().is_none() {
        true => Ok(()),
        // It would stand in lists and logs.
        false => Err("it has a name or a password in it"),
    }
}

/// Returns a file as what its server says that it is. Where that is next to nothing its address's ending tells; text that
/// is said to be of another encoding becomes UTF-8.
fn typed(url: &Url, headers: &HeaderMap, content: Bytes) -> Fetched {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    let mut parts = said.split(';').map(str::trim);
    let said = parts.next().unwrap_or_default().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"'))
    });
    let media_type = match said.as_str() {
        // What servers say when they do not know, or do not want a browser to do anything with it.
        "" | "application/octet-stream" | "text/plain" => {
            ending_type(url.path()).unwrap_or("text/plain")
        }
        "application/xhtml+xml" => "text/html",
        "application/javascript" | "application/x-javascript" => "text/javascript",
        "text/x-markdown" => "text/markdown",
        said => said,
    };
    let media_type = media_type.to_owned();
    let encoding = charset.and_then(|charset| Encoding::for_label(charset.as_bytes()));
    let content = match encoding {
        Some(encoding) if encoding != UTF_8 && said.starts_with("text/") => {
            Bytes::from(encoding.decode(&content).0.into_owned())
        }
        _ => content,
    };
    Fetched { media_type, content }
}

/// Says what went wrong without what only the operator should know.
fn told(fault: &reqwest::Error) -> &'static str {
    tracing::debug!(?fault, "a file was not fetched");
    match fault {
        fault if fault.is_timeout() => "no connection in time",
        fault if fault.is_connect() => "cannot connect",
        _ => "the connection broke",
    }
}

fn invalid(fault: String) -> Error {
    Error::Invalid(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, said: &str, content: &[u8]) -> (String, Vec<u8>) {
        let url = Url::parse("https://site.example").unwrap().join(path).unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, said.parse().unwrap())]);
        let fetched = typed(&url, &headers, Bytes::copy_from_slice(content));
        (fetched.media_type, fetched.content.to_vec())
    }

    #[test]
    fn a_file_is_what_its_server_says_or_else_what_its_ending_means() {
        for (path, said, is) in [
            ("/a", "text/html; charset=utf-8", "text/html"),
            ("/a.md", "Text/HTML", "text/html"),
            ("/a.md?raw=1", "text/plain; charset=utf-8", "text/markdown"),
            ("/a.csv", "application/octet-stream", "text/csv"),
            ("/a", "application/octet-stream", "text/plain"),
            ("/a", "text/plain", "text/plain"),
            ("/a", "", "text/plain"),
            ("/a.png", "image/png", "image/png"),
            ("/a", "application/xhtml+xml", "text/html"),
        ] {
            assert_eq!(of(path, said, b"").0, is, "{path} {said}");
        }
    }

    #[test]
    fn text_of_another_encoding_becomes_utf_8() {
        let latin = b"M\xfcll".as_slice();
        for said in ["text/html; charset=ISO-8859-1", "text/html;charset=\"windows-1252\""] {
            assert_eq!(of("/a", said, latin).1, "Müll".as_bytes(), "{said}");
        }
        for said in ["text/html", "text/html; charset=utf-8", "text/html; charset=none"] {
            assert_eq!(of("/a", said, latin).1, latin, "{said}");
        }
        assert_eq!(of("/a", "application/pdf; charset=ISO-8859-1", latin).1, latin);
    }

    #[test]
    fn what_is_no_address_of_the_web_is_refused() {
        for (source, told) in [
            ("file:///etc/passwd", "only http and https"),
            ("ftp://site.example/", "only http and https"),
            ("/a.md", "relative URL without a base"),
            ("https://", "empty host"),
            ("https://ann:secret@site.example/", "a name or a password"),
        ] {
            let fault = address(source).unwrap_err().to_string();
            assert!(fault.contains(told), "{fault}");
        }
        assert!(address("http://site.example:8080/a?b#c").is_ok());
    }
}
