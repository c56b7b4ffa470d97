//! The server as a client meets it, as the reference server does it, and as an attacker meets it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod hostile;
mod limits;
mod outside;
mod reading;
mod reference;
mod support;
mod writing;
