//! What a process takes from itself before it reads what it does not trust.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

/// Leaves this process so many bytes of memory beyond what it has, so many seconds of a processor, the
/// files that it was given, and nothing else: it opens no file and no connection, writes no file, starts
/// no program, and becomes no other user.
pub(super) fn confine(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    let memory = own_memory()?.saturating_add(memory_bytes);
    for (resource, most) in [
        (Resource::As, memory),
        (Resource::Nofile, 3),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    // The first is a signal that tells why, the second ends whatever stays.
    let time = Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds.saturating_add(1)) };
    setrlimit(Resource::Cpu, time)?;
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Returns how much address space this process has: a program is mapped whole.
fn own_memory() -> io::Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm says nothing"))?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}
