//! The only way out: every HTTP client of ours is made here, for a [`Reach`].
//!
//! Whether a destination is local, or public, is decided on the address that is connected to, when it is
//! connected to: names are resolved here, and what is out of reach is not given to the connection. A name
//! that changes its address after the check is checked again, because the check is the resolution.

pub mod body;
mod sent;
mod server;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder};
use url::Url;

pub use sent::{Outgoing, Sent};
pub use server::{Answer, Error, Server};

/// Where a client may connect to.
#[derive(Debug, Clone, Default)]
pub enum Reach {
    /// Any address.
    #[default]
    Anywhere,
    /// This machine, and the networks that the operator says are as good.
    Local(Arc<[IpNet]>),
    /// Public addresses, and the networks that the operator lists: for what a user names.
    Public(Arc<[IpNet]>),
    /// The networks that the operator lists, and not this machine unless it is one of them.
    Listed(Arc<[IpNet]>),
}

/// A destination that may not be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not {wanted}")]
pub struct OutOfReach {
    /// Where it is.
    pub address: IpAddr,
    wanted: &'static str,
}

impl Reach {
    /// Returns whether `address` may be connected to. An IPv4 address within IPv6 is that address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        match self {
            Self::Anywhere => true,
            Self::Local(networks) => address.is_loopback() || is_in(networks),
            Self::Public(networks) => is_public(address) || is_in(networks),
            Self::Listed(networks) => is_in(networks),
        }
    }

    /// Checks a destination that is written as an address; names are checked when they are resolved.
    ///
    /// # Errors
    /// [`OutOfReach`] if it is.
    pub fn check(&self, url: &Url) -> Result<(), OutOfReach> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !self.covers(address) => Err(self.refused(address)),
            _ => Ok(()),
        }
    }

    fn refused(&self, address: IpAddr) -> OutOfReach {
        let wanted = match self {
            Self::Anywhere | Self::Local(_) => "a local address",
            Self::Public(_) => "a public address",
            Self::Listed(_) => "in a network that is listed",
        };
        OutOfReach { address, wanted }
    }
}

/// Tells whether an address is one of the internet's, and not of a machine, a link, a private network or a group, nor one
/// that leads into IPv4 by another way: IANA's registries of special-purpose addresses (2026-11), rather too much of them.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(
            address.octets(),
            [0 | 10 | 127 | 224..=255, ..]
                | [100, 64..=127, ..]
                | [169, 254, ..]
                | [172, 16..=31, ..]
                | [192, 168, ..]
                | [192, 0, 0 | 2, _]
                | [192, 88, 99, _]
                | [198, 18 | 19, ..]
                | [198, 51, 100, _]
                | [203, 0, 113, _]
        ),
        IpAddr::V6(address) => match address.segments() {
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
            [first, ..] => (0x2000..=0x3fff).contains(&first),
        },
    }
}

/// Starts a client of this reach: `TCP_NODELAY`, no proxy, no redirect, which could lead elsewhere.
///
/// Call [`Reach::check`] for its destination: an address needs no resolution.
pub fn client(reach: Reach) -> ClientBuilder {
    client_with(Resolver::system(reach))
}

/// Prepares the way to a server of this reach that is asked often: see [`Server`]. Its scheme, host and
/// port are those of `url`; a connection has to stand within `patience`. No proxy, no redirect.
///
/// Call [`Reach::check`] for it: an address needs no resolution.
///
/// # Errors
/// If it has no host, or this machine has no certificates to check it by.
pub fn server(reach: Reach, url: &Url, patience: Duration) -> Result<Server, Error> {
    Server::new(Resolver::system(reach), url, patience)
}

/// Tells whether an error, or what caused it, is that a destination was out of reach.
#[must_use]
pub fn is_out_of_reach(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<OutOfReach>() || error.source().is_some_and(is_out_of_reach)
}

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync>;

#[expect(clippy::disallowed_methods, reason = "the one place where clients are made")]
fn client_with(resolver: Resolver) -> ClientBuilder {
    runtime::http::use_ring();
    Client::builder()
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(resolver))
}

#[derive(Clone)]
pub(crate) struct Resolver {
    reach: Reach,
    lookup: Lookup,
}

impl Resolver {
    pub(crate) fn system(reach: Reach) -> Self {
        Self { reach, lookup: Arc::new(|name| Box::pin(system(name))) }
    }

    /// Returns the addresses of a name, if they are all within reach.
    fn addresses(&self, name: &str) -> impl Future<Output = Addresses> + Send + use<> {
        let (reach, found) = (self.reach.clone(), (self.lookup)(name.to_owned()));
        async move {
            let found = found.await?;
            // One foreign address among local ones is a trick, or a mistake that nobody would see.
            match found.iter().find(|address| !reach.covers(address.ip())) {
                Some(foreign) => Err(reach.refused(foreign.ip()).into()),
                None => Ok(found.into_iter()),
            }
        }
    }
}

type Addresses = Result<std::vec::IntoIter<SocketAddr>, Box<dyn std::error::Error + Send + Sync>>;

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.addresses(name.as_str());
        Box::pin(async move { Ok(Box::new(found.await?) as Addrs) })
    }
}

impl tower::Service<dns::Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Addresses> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(self.addresses(name.as_str()))
    }
}

async fn system(name: String) -> Found {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;
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

    #[test]
    fn an_address_is_public_or_listed_or_it_is_not() {
        let listed = || [IpNet::from_str("10.1.0.0/16").unwrap()].into();
        let (public, listed) = (Reach::Public(listed()), Reach::Listed(listed()));
        for (address, is_public, is_listed) in [
            ("8.8.8.8", true, false),
            ("10.1.2.3", true, true),
            ("::ffff:10.1.2.3", true, true),
            ("10.2.2.3", false, false),
            ("127.0.0.1", false, false),
            ("0.0.0.0", false, false),
            ("100.64.0.1", false, false),
            ("100.128.0.1", true, false),
            ("169.254.169.254", false, false),
            ("172.15.0.1", true, false),
            ("172.16.0.1", false, false),
            ("172.31.255.255", false, false),
            ("192.168.0.1", false, false),
            ("198.18.0.1", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("::", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("::127.0.0.1", false, false),
            ("64:ff9b::7f00:1", false, false),
            ("2001:0:7f00:1::", false, false),
            ("2002:7f00:1::", false, false),
            ("2001:db8::1", false, false),
            ("2001:4860:4860::8888", true, false),
            ("2606:4700::1111", true, false),
            ("fc00::1", false, false),
            ("fe80::1", false, false),
            ("ff02::1", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(public.covers(address), is_public, "{address}");
            assert_eq!(listed.covers(address), is_listed, "{address}");
        }
        // However it is written.
        for host in ["2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            let fault = public.check(&url).unwrap_err().to_string();
            assert!(fault.ends_with("is not a public address"), "{fault}");
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
        let resolver = Resolver { reach: local(&[]), lookup };
        let url = format!("http://models.example:{port}/");
        let client = client_with(resolver.clone()).build().unwrap();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
        let patience = Duration::from_secs(10);
        let server = Server::new(resolver, &url.parse().unwrap(), patience).unwrap();
        let get = || http::Request::get("/").body(Outgoing::default()).unwrap();
        assert_eq!(server.send(get()).await.unwrap().status(), 204);
        let refused = client.get(&url).send().await.unwrap_err();
        assert!(is_out_of_reach(&refused), "{refused:?}");
        let refused = server.send(get()).await.unwrap_err();
        assert!(is_out_of_reach(&refused), "{refused:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert_eq!(served.await.unwrap(), 2);
    }
}
