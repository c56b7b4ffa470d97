//! What others make of our MCP servers: clients, the judges of the protocol, and the servers whose place
//! ours take. Each helper is told an address, and knows no server.

mod bridge;
mod clients;
mod conformance;
mod filesystem;
mod git;
mod memory;
mod reference;
