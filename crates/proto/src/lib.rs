//! The contracts between services, generated from `proto/` at build time.
//!
//! The clients are generic over what carries the call: a channel, or the server itself.

/// What a message is encoded with.
pub use prost::Message;

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident: $package:literal),* $(,)?) => {
        // Nested as the packages are, so that one can speak of another's messages.
        #[allow(missing_docs, clippy::all, unreachable_pub, reason = "generated")]
        mod baton {
            $(pub mod $name {
                pub mod v1 {
                    tonic::include_proto!($package);
                }
            })*
        }
        $($(#[$doc])* pub use baton::$name::v1 as $name;)*
    };
}

packages! {
    /// Tools: `baton.bridge.v1`.
    bridge: "baton.bridge.v1",
    /// Money: `baton.budget.v1`.
    budget: "baton.budget.v1",
    /// Runs: `baton.orchestrator.v1`.
    orchestrator: "baton.orchestrator.v1",
    /// Documents and search: `baton.retriever.v1`.
    retriever: "baton.retriever.v1",
    /// Models: `baton.router.v1`.
    router: "baton.router.v1",
}

impl router::Kept {
    /// Returns how the API calls it; empty when none was looked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Semantic => "semantic",
        }
    }
}

/// Every service's description, as gRPC reflection serves it: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
