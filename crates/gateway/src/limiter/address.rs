//! Where a request comes from: the socket, or what proxies of ours say.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client's address. What a header says is believed as far as proxies of ours said it: from
/// its end, past those that are `trusted`. What comes before the first one that is not is anybody's word.
pub(crate) fn of(request: &Request, trusted: &[IpNet]) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    Some(behind(peer.ip().to_canonical(), request.headers(), trusted))
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_ours = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_ours(&peer) {
        return peer;
    }
    // A proxy speaks one of the two; another's word in the other one would pass through it.
    let named = match headers.contains_key(&X_FORWARDED_FOR) {
        true => hops(headers, &X_FORWARDED_FOR),
        false => hops(headers, &header::FORWARDED),
    };
    let mut client = peer;
    for hop in named.iter().rev() {
        // What is no address was hidden by the proxy that we know last.
        let Some(address) = hop else { break };
        client = *address;
        if !is_ours(&client) {
            break;
        }
    }
    client
}

/// Returns what each hop says of the one before it.
fn hops(headers: &HeaderMap, name: &HeaderName) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter();
    let lines = lines.map(|line| line.to_str().unwrap_or_default());
    lines
        .flat_map(|line| line.split(','))
        .map(|hop| parse(hop, name == header::FORWARDED))
        .collect()
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, or `for="[2001:db8::1]";proto=https`.
fn parse(hop: &str, is_forwarded: bool) -> Option<IpAddr> {
    let text = match is_forwarded {
        false => hop.trim(),
        true => hop.split(';').find_map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            name.eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
        })?,
    };
    let plain = text.trim_start_matches('[').trim_end_matches(']').parse();
    let address: IpAddr = plain.or_else(|_| text.parse().map(|with: SocketAddr| with.ip())).ok()?;
    Some(address.to_canonical())
}

/// Returns the network that counts as one client: of IPv6 the first 64 bits, which anybody has whole.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_address_is_believed_as_far_as_proxies_of_ours_say_it() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        let of = |peer: &str, name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            behind(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        let x = |peer: &str, value: &str| of(peer, X_FORWARDED_FOR, value);
        assert_eq!(x("192.0.2.9", "198.51.100.1"), "192.0.2.9", "anybody says anything");
        assert_eq!(x("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "203.0.113.7, 198.51.100.1"), "198.51.100.1", "spoofed");
        assert_eq!(x("10.0.0.1", "203.0.113.7,198.51.100.1 , 10.2.3.4"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "203.0.113.7, unknown"), "10.0.0.1");
        assert_eq!(x("10.0.0.1", "10.0.0.2"), "10.0.0.2", "all of them are ours");
        let f = |value: &str| of("fd00::1", header::FORWARDED, value);
        assert_eq!(f("for=203.0.113.7, For=\"[2001:db8::1]:80\";proto=https"), "2001:db8::1");
        assert_eq!(f("proto=https"), "fd00::1");
        assert_eq!(f("for=::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_client_has_a_network_of_ipv6_whole() {
        assert_eq!(network("2001:db8:1:2:3::4".parse().unwrap()).to_string(), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
    }
}
