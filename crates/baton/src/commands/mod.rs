//! One file a command.

pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod chat;
pub(crate) mod client;
pub(crate) mod columns;
pub(crate) mod eval;
pub(crate) mod folder;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod keys;
pub(crate) mod maintenance;
pub(crate) mod tools;
pub(crate) mod up;

use crate::cli::Common;
use crate::node::Config;

/// Reads the configuration and lets the command line override it.
pub(crate) fn configuration(common: &Common) -> anyhow::Result<Config> {
    Config::load(common.config.as_deref(), common.data.as_deref())
}
