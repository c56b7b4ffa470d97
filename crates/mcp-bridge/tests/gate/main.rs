//! What is admitted: pins, policy and audit, before servers that change their minds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod calls;
mod contract;
mod support;
