//! The real service, over peers that do as they are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod batches;
mod bridge;
mod conversing;
mod support;
