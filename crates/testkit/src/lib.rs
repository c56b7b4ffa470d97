//! What tests stand on: a private PostgreSQL, a private Redis, a Qdrant, a provider of language models, an embedding model,
//! an MCP server, a site, a front that speaks TLS, an identity provider's tokens, the built programs.
//!
//! Everything starts on a port or socket of its own and ends with the value that stands for it, also
//! when the test is killed. A program that is missing fails the test and says how to install it.

pub mod hook;
pub mod mcp;
pub mod model;
pub mod postgres;
pub mod process;
pub mod provider;
mod qdrant;
pub mod redis;
pub mod tls;
pub mod token;
pub mod web;

pub use postgres::Postgres;
pub use process::Process;
pub use qdrant::Qdrant;
pub use redis::Redis;
