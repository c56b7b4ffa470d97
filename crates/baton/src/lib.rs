//! `baton`: joins every service in one process, and speaks to a running system.

pub mod cli;
mod commands;
pub mod discover;
pub mod node;
