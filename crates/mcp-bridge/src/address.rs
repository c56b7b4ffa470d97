//! Addresses of resources, such that two servers' never collide. Pure.
//!
//! A client's address is `mcp+SERVER+ADDRESS`: a URI where the server's own is one, and a template where
//! that is one.

use rmcp::model::{ContentBlock, ResourceContents};

const SCHEME: &str = "mcp+";

/// Returns a client's address for a server's own.
pub(crate) fn wrap(server: &str, address: &str) -> String {
    format!("{SCHEME}{server}+{address}")
}

/// Returns the server's own address, if it is one of that server.
pub(crate) fn unwrap<'a>(server: &str, address: &'a str) -> Option<&'a str> {
    address.strip_prefix(SCHEME)?.strip_prefix(server)?.strip_prefix('+')
}

/// Wraps the addresses in what a server says.
pub(crate) fn wrap_content(server: &str, content: &mut ContentBlock) {
    match content {
        ContentBlock::Resource(embedded) => wrap_contents(server, &mut embedded.resource),
        ContentBlock::ResourceLink(link) => link.uri = wrap(server, &link.uri),
        _ => {}
    }
}

/// Wraps the address of a resource's contents.
pub(crate) fn wrap_contents(server: &str, contents: &mut ResourceContents) {
    match contents {
        ResourceContents::TextResourceContents { uri, .. }
        | ResourceContents::BlobResourceContents { uri, .. } => *uri = wrap(server, uri),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_one_server_alone() {
        for address in ["file:///a b", "memory:x", "git+https://h/{path}", ""] {
            let wrapped = wrap("a-b", address);
            assert_eq!(unwrap("a-b", &wrapped), Some(address));
            for other in ["a", "a-bc", "b", ""] {
                assert_eq!(unwrap(other, &wrapped), None, "{other}");
            }
        }
        assert_eq!(unwrap("a", "file:///a"), None);
    }
}
