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
pub mod shutdown;
pub mod spans;
pub mod telemetry;
mod trace;
pub mod transport;
