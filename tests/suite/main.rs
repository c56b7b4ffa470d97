//! Journeys through the gateway, against one process and against separate ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod asking;
mod batch_api;
mod batches;
mod budgets;
mod caching;
mod command_line;
mod configuration;
mod conversing;
mod crashing;
mod embedding;
mod encrypting;
mod faults;
mod fetching;
mod ingesting;
mod input;
mod keys;
mod limits;
mod mcp;
mod models;
mod money;
mod operating;
mod packages;
mod privacy;
mod providers;
mod responses;
mod rewriting;
mod sdk;
mod searching;
mod sharing;
mod sockets;
mod tools;
mod wording;
