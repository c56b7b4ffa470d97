//! What a tool's program may not do. A launcher, which is this very program started again, takes it from
//! itself and then becomes the tool's program: nothing runs between a fork and its exec but the system's own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getgid, getuid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use crate::Config;

/// What a program of ours is called with to become a tool's.
const LAUNCH: &str = "launch-tool";

/// What a program of ours is called with to find out whether a tool's can be kept from every network.
const TRY_NETWORK: &str = "try-tool-network";

/// What it exits with when it did not become it.
const NOT_LAUNCHED: u8 = 126;

/// The newest rules that are known; an older kernel keeps those that it knows.
const KNOWN: ABI = ABI::V10;

/// What every program needs to run at all: the system's programs and libraries, names of hosts and
/// users, certificates. Secrets that the system keeps are not among them.
const SYSTEM: [&str; 34] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/opt",
    "/sbin",
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/urandom",
];

/// Devices that hold nothing.
const DEVICES: [&str; 4] = ["/dev/full", "/dev/null", "/dev/random", "/dev/zero"];

/// What a tool's program may use and reach. A limit of 0 is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Files and directories that it may read and execute, by absolute paths, besides the system's
    /// programs and libraries, and itself.
    pub read: Vec<PathBuf>,
    /// Files and directories that it may also write, besides its own directory.
    pub write: Vec<PathBuf>,
    /// Whether the kernel is to keep it to these.
    pub landlock: Landlock,
    /// The memory that each of its processes may have, in bytes.
    pub memory_bytes: u64,
    /// The address space that each of its processes may have, in bytes. Runtimes of JavaScript, Go and
    /// Java reserve many times what they use.
    pub address_space_bytes: u64,
    /// The files that each of its processes may have open.
    pub files: u64,
    /// The processes and threads that it may have, besides those that this user has when it starts: the
    /// kernel counts by user.
    pub processes: u64,
    /// The seconds of a processor that each of its processes may take.
    pub cpu_seconds: u64,
    /// The largest file that each of its processes may write, in bytes.
    pub file_bytes: u64,
    /// Whether it may connect anywhere. If not it has a network of its own, in which nothing is: nor is
    /// this machine. Sockets that are files are in no network: the kernel keeps it to those that it may
    /// write since Linux 7.1 (Landlock), and an older one to those whose modes let this user.
    pub network: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            write: Vec::new(),
            landlock: Landlock::default(),
            memory_bytes: 4 * 1024 * 1024 * 1024,
            address_space_bytes: 0,
            files: 1024,
            processes: 256,
            cpu_seconds: 0,
            file_bytes: 4 * 1024 * 1024 * 1024,
            network: true,
        }
    }
}

/// Whether the kernel keeps a program to its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// Where it can.
    #[default]
    WhereKnown,
    /// Or the program is not started.
    Required,
    /// It does not.
    Off,
}

impl Sandbox {
    /// Refuses what no kernel, or not this one, could keep.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let Some(path) = self.read.iter().chain(&self.write).find(|path| !path.is_absolute()) {
            anyhow::bail!("sandbox: {} is not an absolute path", path.display());
        }
        if self.landlock == Landlock::Required && !kernel_has_landlock() {
            anyhow::bail!("sandbox.landlock is required, and this kernel has none");
        }
        Ok(())
    }

    /// Writes the command line that launches `command`; it goes behind a program of ours.
    pub(crate) fn command_line(
        &self,
        home: &Path,
        command: &OsStr,
    ) -> anyhow::Result<[OsString; 3]> {
        for path in self.read.iter().chain(&self.write) {
            path.metadata().with_context(|| format!("sandbox: {}", path.display()))?;
        }
        let order = Order { sandbox: self.clone(), home: home.to_owned() };
        Ok([LAUNCH.into(), serde_json::to_string(&order)?.into(), command.to_owned()])
    }
}

/// What a launcher is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    sandbox: Sandbox,
    home: PathBuf,
}

/// Becomes a tool's program, if this process was started by the bridge to do so; returns how to exit if
/// it cannot. A program's `main` calls it before it does anything else.
#[must_use]
pub fn launch_tool(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    let order = arguments.next()?;
    let fault = if order == LAUNCH {
        let Err(fault) = launch(arguments);
        fault
    } else if order == TRY_NETWORK {
        match leave_network() {
            Ok(()) => return Some(ExitCode::SUCCESS),
            Err(fault) => fault,
        }
    } else {
        return None;
    };
    eprintln!("not launched: {fault:#}");
    Some(ExitCode::from(NOT_LAUNCHED))
}

fn launch(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Infallible> {
    let order = arguments.next().context("no order")?;
    let Order { sandbox, home } = serde_json::from_str(order.to_str().context("no order")?)?;
    let command = arguments.next().context("no program")?;
    limit(&sandbox).context("a limit")?;
    // What this process was itself left open is not the program's.
    close_fds::set_fds_cloexec(3, &[]);
    if !sandbox.network {
        leave_network()?;
    }
    drop_capabilities().context("capabilities")?;
    set_no_new_privs(true).context("no new privileges")?;
    if sandbox.landlock != Landlock::Off {
        restrict(&sandbox, &home, &command)?;
    }
    let fault = Command::new(&command).args(arguments).exec();
    Err(fault).with_context(|| Path::new(&command).display().to_string())
}

fn limit(sandbox: &Sandbox) -> anyhow::Result<()> {
    let limit =
        |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::Core, 0)?;
    for (resource, most) in [
        // What is written to, and not what is only reserved.
        (Resource::Data, sandbox.memory_bytes),
        (Resource::As, sandbox.address_space_bytes),
        (Resource::Nofile, sandbox.files),
        (Resource::Cpu, sandbox.cpu_seconds),
        (Resource::Fsize, sandbox.file_bytes),
    ] {
        if most > 0 {
            limit(resource, most)?;
        }
    }
    if sandbox.processes > 0 {
        limit(Resource::Nproc, tasks_of_this_user()?.saturating_add(sandbox.processes))?;
    }
    Ok(())
}

/// Takes a network of its own, in which nothing is.
fn leave_network() -> anyhow::Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let may = capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN);
    let spaces = match may {
        true => UnshareFlags::NEWNET,
        // Who is nobody elsewhere may take one.
        false => UnshareFlags::NEWNET | UnshareFlags::NEWUSER,
    };
    // Unsafe is to part with open files, which is not done here.
    #[allow(deprecated, reason = "the other one is unsafe for what is not done here")]
    rustix::thread::unshare(spaces).context("the kernel gives it no network of its own")?;
    if !may {
        // It stays the user that it was.
        let own = |file: &str, text: String| {
            let file = format!("/proc/self/{file}");
            std::fs::write(&file, text).with_context(|| file)
        };
        own("uid_map", format!("{user} {user} 1"))?;
        own("setgroups", "deny".to_owned())?;
        own("gid_map", format!("{group} {group} 1"))?;
    }
    Ok(())
}

/// Gives up what a superuser may do besides, such as to read the memory of others.
fn drop_capabilities() -> Result<(), Errno> {
    if capabilities(None)?.permitted.is_empty() {
        return Ok(());
    }
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // One that this kernel does not have; or this is no superuser, who would get them back.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(fault) => return Err(fault),
        }
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Counts the threads that this user has.
fn tasks_of_this_user() -> std::io::Result<u64> {
    let user = getuid().as_raw();
    let threads = |status: &str| {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        number("Uid:").filter(|uid| *uid == u64::from(user)).and(number("Threads:"))
    };
    let processes = std::fs::read_dir("/proc")?.flatten();
    // One that has ended meanwhile has none.
    let statuses = processes.flat_map(|one| std::fs::read_to_string(one.path().join("status")));
    Ok(statuses.filter_map(|status| threads(&status)).sum())
}

fn restrict(sandbox: &Sandbox, home: &Path, command: &OsStr) -> anyhow::Result<()> {
    let level = match sandbox.landlock {
        Landlock::Required => CompatLevel::HardRequirement,
        _ => CompatLevel::BestEffort,
    };
    let read = AccessFs::from_read(KNOWN);
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let write = AccessFs::from_all(KNOWN) & !devices;
    let mut rules = Ruleset::default()
        // The first rules are a kernel's, or it has none; what later ones added is kept where it is known.
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        // It signals nobody outside, and reaches no socket without a file.
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let own = program(command);
    let reads = SYSTEM.iter().map(Path::new).chain(own.iter().map(PathBuf::as_path));
    for path in reads.chain(sandbox.read.iter().map(PathBuf::as_path)) {
        rules = allow(rules, path, read)?;
    }
    let writes = DEVICES.iter().map(Path::new).chain([home]);
    for path in writes.chain(sandbox.write.iter().map(PathBuf::as_path)) {
        rules = allow(rules, path, write)?;
    }
    rules.restrict_self()?;
    Ok(())
}

/// Allows `access` beneath `path`, if it is there.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> anyhow::Result<RulesetCreated> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    Ok(rules.add_rule(PathBeneath::new(place, access))?)
}

/// Returns the file that `command` names, as the system looks it up.
fn program(command: &OsStr) -> Option<PathBuf> {
    let path = Path::new(command);
    if path.components().count() > 1 {
        return Some(path.to_owned());
    }
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places).map(|place| place.join(path)).find(|file| file.is_file())
}

/// Tells whether this kernel keeps programs to their files.
pub(crate) fn kernel_has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Refuses programs that are to have no network, where nothing keeps them from it.
pub(crate) fn check_networks(config: &Config) -> anyhow::Result<()> {
    let without = |(name, server): (&String, &crate::Server)| {
        (server.command.is_some() && !server.sandbox.network).then(|| name.clone())
    };
    let Some(name) = config.servers.iter().find_map(without) else { return Ok(()) };
    let setting = format!("mcp_bridge.servers.{name}.sandbox.network");
    let launcher = config.launcher.as_ref();
    let launcher = launcher.with_context(|| format!("{setting}: this program has no launcher"))?;
    let tried = Command::new(launcher).arg(TRY_NETWORK).env_clear().output();
    let tried = tried.with_context(|| setting.clone())?;
    let said = String::from_utf8_lossy(&tried.stderr);
    ensure!(tried.status.success(), "{setting} cannot be false: {}", said.trim());
    Ok(())
}

/// Says in the log what this machine cannot keep programs from.
pub(crate) fn say_what_is_missing(config: &Config) {
    let programs = config.servers.iter().filter(|(_, server)| server.command.is_some());
    let programs: Vec<_> = programs.map(|(name, _)| name.as_str()).collect();
    let servers = programs.join(", ");
    if programs.is_empty() {
        return;
    }
    if config.launcher.is_none() {
        tracing::warn!(servers, "programs are not confined: this program has no launcher");
        return;
    }
    if !kernel_has_landlock() {
        tracing::warn!(servers, "this kernel has no Landlock: programs read what this user may");
    }
    if getuid().is_root() {
        tracing::warn!(servers, "root starts as many processes as it likes: run as another user");
    }
}
