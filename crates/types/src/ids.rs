use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing, or only white space.
    #[error("{what} is empty")]
    Empty {
        /// Which id.
        what: &'static str,
    },
    /// Longer than 256 bytes.
    #[error("{what} has {bytes} bytes, at most 256 are allowed")]
    TooLong {
        /// Which id.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Holds a control character.
    #[error("{what} holds a control character")]
    Control {
        /// Which id.
        what: &'static str,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        id!($(#[$doc])* $name, $what, "");
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 256 bytes of UTF-8 without control characters. Clones share them.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses an id.
            ///
            /// # Errors
            /// [`IdError`] if it is empty, too long or holds a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                if text.trim().is_empty() {
                    return Err(IdError::Empty { what: $what });
                }
                if text.len() > 256 {
                    return Err(IdError::TooLong { what: $what, bytes: text.len() });
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::Control { what: $what });
                }
                Ok(Self(text.into()))
            }

            /// Returns a new id that sorts by the time of its making (UUID version 7).
            #[must_use]
            pub fn generate() -> Self {
                let mut text = Uuid::encode_buffer();
                let text = new().hyphenated().encode_lower(&mut text);
                Self([$prefix, &*text].concat().into())
            }

            /// Returns the id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// Who owns data and money: nothing is shared between two tenants.
    TenantId, "tenant id"
);
id!(
    /// A group of users of one tenant.
    TeamId, "team id"
);
id!(
    /// A person or program of one tenant.
    UserId, "user id"
);
id!(
    /// An API key's public name, never its secret.
    KeyId, "key id", "key_"
);
id!(
    /// One piece of work of the orchestrator.
    RunId, "run id"
);
id!(
    /// One HTTP request, as `x-request-id` shows it.
    RequestId, "request id"
);
id!(
    /// One hold of money, named by whoever asks for it.
    ReservationId, "reservation id"
);
id!(
    /// One document of a tenant.
    DocumentId, "document id"
);
id!(
    /// One passage of a document.
    PassageId, "passage id"
);
id!(
    /// One file of a tenant, uploaded or made by a batch.
    FileId, "file id", "file-"
);
id!(
    /// One answer to a Responses request.
    ResponseId, "response id", "resp_"
);
id!(
    /// One batch of requests.
    BatchId, "batch id", "batch_"
);
id!(
    /// One ingest job.
    JobId, "job id", "job_"
);
id!(
    /// One of OpenAI's vector stores, which is a collection of documents by this name.
    VectorStoreId, "vector store id", "vs_"
);
id!(
    /// The right to work on something, for a while.
    LeaseId, "lease id"
);

/// How many ids the system is asked for randomness for at once: each time takes longer than the rest of an id.
const TOGETHER: usize = 64;

/// Returns a UUID of version 7, whose first random bits are the part of the millisecond (RFC 9562, section
/// 6.2, method 3): in one process one that is made a quarter of a microsecond later sorts behind.
fn new() -> Uuid {
    thread_local! {
        static RANDOM: RefCell<Vec<[u8; 10]>> = const { RefCell::new(Vec::new()) };
    }
    let random = RANDOM.with_borrow_mut(|random| {
        if random.is_empty() {
            let mut bytes = [[0; 10]; TOGETHER];
            getrandom::fill(bytes.as_flattened_mut()).ok()?;
            random.extend(bytes);
        }
        random.pop()
    });
    let Some(mut random) = random else { return Uuid::now_v7() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let part = u64::from(now.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
    (random[0], random[1]) = ((part >> 8) as u8, part as u8);
    let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_with_its_fault() {
        assert_eq!(UserId::new(" "), Err(IdError::Empty { what: "user id" }));
        assert_eq!(UserId::new("a\nb"), Err(IdError::Control { what: "user id" }));
        let long = UserId::new("x".repeat(257));
        assert_eq!(long, Err(IdError::TooLong { what: "user id", bytes: 257 }));
        assert_eq!(UserId::new("ü".repeat(128)).unwrap().as_str().len(), 256);
    }

    #[test]
    fn generated_ids_differ() {
        assert_ne!(RunId::generate(), RunId::generate());
        assert!(FileId::generate().as_str().starts_with("file-0"));
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_that_sorts_by_time() {
        let ids: Vec<Uuid> = (0..3 * TOGETHER).map(|_| new()).collect();
        for id in &ids {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
        // The first 60 bits besides the version are the time.
        let time = |id: &Uuid| id.as_u128() >> 64;
        assert!(ids.is_sorted_by_key(time), "{ids:?}");
        let random: std::collections::HashSet<u64> =
            ids.iter().map(|id| id.as_u64_pair().1).collect();
        assert_eq!(random.len(), ids.len());
        let at = ids[0].get_timestamp().unwrap().to_unix().0;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(at <= now && at + 60 > now, "{at} {now}");
    }
}
