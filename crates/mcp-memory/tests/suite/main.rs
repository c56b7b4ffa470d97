//! The stores' contract, the server as a client meets it, and the reference server beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod contract;
mod lasting;
mod reference;
mod serving;
mod support;
