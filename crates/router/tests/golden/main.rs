//! What providers send and clients ask, byte for byte as it was seen on wires, through the real
//! service: an HTTP server that says what a file holds, the router, a client of each dialect.
//!
//! Beside each file stands what came out. `INSTA_UPDATE=always cargo test -p router --test golden` writes
//! it anew; the difference is then read by somebody who knows what the client's library expects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod answers;
mod budget;
mod fixture;
mod requests;
mod router_under_test;
mod upstream;
