//! What every service needs once: configuration, telemetry, the context of calls, peers, serving.
//!
//! A service's `main` is one line over [`process::service`]; in one process the same servers are
//! joined with [`transport::in_process`].

pub mod address;
pub mod config;
pub mod context;
pub mod error;
pub mod grpc;
pub mod http;
mod lines;
pub mod metrics;
pub mod probes;
pub mod process;
pub mod reload;
pub mod repoll;
pub mod shutdown;
pub mod spans;
pub mod telemetry;
mod trace;
pub mod transport;

/// The allocator of every program here: a call allocates some thousand times, and SQLite with it.
// A sanitizer has its own.
#[cfg(not(fuzzing))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
