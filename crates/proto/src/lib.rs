//! The contracts between services, generated from `proto/` at build time.
//!
//! The clients are generic over what carries the call: a channel, or the server itself.

use std::marker::PhantomData;

/// What a message is encoded with.
pub use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Encodes as prost does, into less memory: each call makes four buffers of the size that there is at
/// first, and most messages are a fraction of tonic's 8 KiB.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

/// A buffer at first, and how much is sent on at once.
fn buffers() -> BufferSettings {
    BufferSettings::new(512, 32 * 1024)
}

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
