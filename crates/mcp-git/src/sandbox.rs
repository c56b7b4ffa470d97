//! What the process that does the work may still do: read below the root, write there when it is
//! allowed to, and start nothing.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::Config;

/// The newest rules that are known; an older kernel keeps those that it knows.
const KNOWN: ABI = ABI::V5;

/// Gives up every right that no call needs, for good. A kernel without Landlock leaves it at limits
/// and at what `Place` checks.
pub(crate) fn enter(config: &Config) -> anyhow::Result<()> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, limit(config.max_memory_bytes))?;
    setrlimit(Resource::Core, limit(0))?;
    // Whoever started this kills it in time; should that one be gone, the kernel does.
    setrlimit(Resource::Cpu, limit(config.time_limit().as_secs() + 2))?;
    restrict(config)?;
    Ok(())
}

fn restrict(config: &Config) -> Result<(), RulesetError> {
    let execute = BitFlags::from(AccessFs::Execute);
    let special =
        AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::MakeSock;
    let read = AccessFs::from_read(KNOWN) & !execute;
    let all = AccessFs::from_all(KNOWN) & !execute & !special & !AccessFs::IoctlDev;
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .create()?;
    let rules = allow(rules, &config.root, if config.write { all } else { read })?;
    let rules = configurations().iter().try_fold(rules, |rules, path| allow(rules, path, read))?;
    rules.restrict_self()?;
    Ok(())
}

/// Allows `access` beneath `path`, if it is there.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(place, access))
}

/// Git's own configuration: the system's and this user's, not the repository's.
fn configurations() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/etc/gitconfig")];
    let home = std::env::home_dir();
    places.extend(home.iter().map(|home| home.join(".gitconfig")));
    places.extend(home.map(|home| home.join(".config/git")));
    places
}
