//! The bridge before MCP clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]
#![allow(deprecated, reason = "older clients and servers use what is deprecated")]

mod admitted;
mod listener;
mod programs;
mod relayed;
mod sessions;
mod support;
