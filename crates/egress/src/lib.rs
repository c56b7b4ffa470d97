//! The only way out: every HTTP client of ours is made here, for a [`Reach`].
//!
//! Whether a destination is local is decided on the address that is connected to, when it is
//! connected to: names are resolved here, and what is not local is not given to the connection. A name
//! that changes its address after the check is checked again, because the check is the resolution.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Url};

/// Where a client may connect to.
#[derive(Debug, Clone, Default)]
pub enum Reach {
    /// Any address.
    #[default]
    Anywhere,
    /// This machine, and the networks that the operator says are as good.
    Local(Arc<[IpNet]>),
}

/// A destination that had to be local and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a local address")]
pub struct NotLocal(pub IpAddr);

impl Reach {
    /// Returns whether `address` may be connected to. An IPv4 address within IPv6 is that address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Anywhere => true,
            Self::Local(networks) => {
                address.is_loopback() || networks.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// Checks a destination that is written as an address; names are checked when they are resolved.
    ///
    /// # Errors
    /// [`NotLocal`] if it is out of reach.
    pub fn check(&self, url: &Url) -> Result<(), NotLocal> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !self.covers(address) => Err(NotLocal(address)),
            _ => Ok(()),
        }
    }
}

/// Starts a client of this reach: `TCP_NODELAY`, no proxy, no redirect, which could lead elsewhere.
///
/// Call [`Reach::check`] for its destination: an address needs no resolution.
pub fn client(reach: Reach) -> ClientBuilder {
    client_with(reach, Arc::new(|name| Box::pin(system(name))))
}

/// Tells whether an error, or what caused it, is that a destination was not local.
#[must_use]
pub fn is_not_local(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<NotLocal>() || error.source().is_some_and(is_not_local)
}

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync>;

#[expect(clippy::disallowed_methods, reason = "the one place where clients are made")]
fn client_with(reach: Reach, lookup: Lookup) -> ClientBuilder {
    runtime::http::use_ring();
    Client::builder()
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Resolver { reach, lookup }))
}

struct Resolver {
    reach: Reach,
    lookup: Lookup,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, found) = (self.reach.clone(), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let found = found.await?;
            // One foreign address among local ones is a trick, or a mistake that nobody would see.
            match found.iter().find(|address| !reach.covers(address.ip())) {
                Some(foreign) => Err(NotLocal(foreign.ip()).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

async fn system(name: String) -> Found {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn local(networks: &[&str]) -> Reach {
        Reach::Local(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_is_local_or_it_is_not() {
        for (address, networks, covered) in [
            ("127.0.0.1", &[][..], true),
            ("127.8.9.10", &[], true),
            ("::1", &[], true),
            ("::ffff:127.0.0.1", &[], true),
            ("::ffff:8.8.8.8", &[], false),
            ("10.0.0.7", &[], false),
            ("10.0.0.7", &["10.0.0.0/24"], true),
            ("10.0.1.7", &["10.0.0.0/24"], false),
            ("0.0.0.0", &[], false),
            ("169.254.169.254", &[], false),
        ] {
            let reach = local(networks);
            assert_eq!(reach.covers(address.parse().unwrap()), covered, "{address}");
            let host = if address.contains(':') { format!("[{address}]") } else { address.into() };
            let url = Url::parse(&format!("http://{host}:1/v1")).unwrap();
            assert_eq!(reach.check(&url).is_ok(), covered, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_is_checked_at_every_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut count = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                count += 1;
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let reply = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(reply).await;
                if count == 2 {
                    break;
                }
            }
            count
        });
        // It is this machine twice, and then it is somebody else.
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let lookup: Lookup = Arc::new(move |_| {
            let ip = match counted.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => [127, 0, 0, 1],
                _ => [203, 0, 113, 1],
            };
            Box::pin(std::future::ready(Ok(vec![SocketAddr::from((ip, 0))])))
        });
        let client = client_with(local(&[]), lookup).build().unwrap();
        let url = format!("http://models.example:{port}/");
        for _ in 0..2 {
            assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
        }
        let refused = client.get(&url).send().await.unwrap_err();
        assert!(is_not_local(&refused), "{refused:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert_eq!(served.await.unwrap(), 2);
    }
}
