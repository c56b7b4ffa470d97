use std::fmt;

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
        /// 1 to 256 bytes of UTF-8 without control characters.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses an id.
            ///
            /// # Errors
            /// [`IdError`] if it is empty, too long or holds a control character.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if text.trim().is_empty() {
                    return Err(IdError::Empty { what: $what });
                }
                if text.len() > 256 {
                    return Err(IdError::TooLong { what: $what, bytes: text.len() });
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::Control { what: $what });
                }
                Ok(Self(text))
            }

            /// Returns a new id that sorts by the time of its making (UUID version 7).
            #[must_use]
            pub fn generate() -> Self {
                Self(format!(concat!($prefix, "{}"), uuid::Uuid::now_v7()))
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
}
