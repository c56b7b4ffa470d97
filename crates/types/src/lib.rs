//! The words that every part of Baton shares: ids, money, errors, the context of a call, time.
//!
//! A leaf crate: no I/O, no async.
//!
//! ```
//! use types::NanoUsd;
//! let price: NanoUsd = "0.000150".parse()?;
//! assert_eq!(price.nanos(), 150_000);
//! # Ok::<(), types::MoneyError>(())
//! ```

mod context;
mod error;
mod ids;
mod money;
mod role;
mod time;
mod tools;
mod untrusted;

pub use context::{Caching, CallContext, Privacy, allows};
pub use error::{Classify, ErrorKind};
pub use ids::{
    BatchId, DocumentId, FileId, IdError, JobId, KeyId, LeaseId, PassageId, RequestId,
    ReservationId, ResponseId, RunId, TeamId, TenantId, UserId, VectorStoreId,
};
pub use money::{MoneyError, NanoUsd};
pub use role::{Role, UnknownRole};
pub use time::{Clock, SystemClock};
pub use tools::{function_name, tool_name};
pub use untrusted::tool_result;
