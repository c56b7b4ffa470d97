//! A server that is a program of its own.

use std::collections::BTreeMap;
use std::process::Stdio;

use process_wrap::tokio::{CommandWrap, ProcessGroup};
use rmcp::transport::TokioChildProcess;
use tokio::process::Command;

/// What a program needs to find others and its files; everything else of ours stays ours.
const INHERITED: [&str; 2] = ["PATH", "HOME"];

/// Starts a program in a process group of its own, so that what it starts ends with it.
pub(super) fn start(
    command: &str,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> std::io::Result<TokioChildProcess> {
    let inherited = std::env::vars_os().filter(|(name, _)| INHERITED.iter().any(|n| name == n));
    let mut command = Command::new(command);
    command.args(args).env_clear().envs(inherited).envs(env).kill_on_drop(true);
    let mut group = CommandWrap::from(command);
    group.wrap(ProcessGroup::leader());
    // Its log goes where ours does.
    let (child, _) = TokioChildProcess::builder(group).stderr(Stdio::inherit()).spawn()?;
    Ok(child)
}
