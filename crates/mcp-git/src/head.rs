//! What `HEAD` points at.

use git2::{ErrorCode, Oid, Reference, Repository};

use crate::Error;

/// What `HEAD` points at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A branch, by its name.
    Branch(String),
    /// A branch without a commit.
    Unborn(String),
    /// No branch: the name or short id that was checked out, if the reflog knows it, and whether
    /// `HEAD` has moved since.
    Detached { from: Option<String>, has_moved: bool },
}

impl Head {
    pub(crate) fn of(repository: &Repository) -> Result<Self, Error> {
        if repository.head_detached()? {
            return Ok(detached(repository));
        }
        match now(repository)? {
            Some(head) => Ok(Self::Branch(String::from_utf8_lossy(head.shorthand_bytes()).into())),
            None => {
                let head = repository.find_reference("HEAD")?;
                let target = head.symbolic_target().ok().flatten().unwrap_or_default();
                let name = target.strip_prefix("refs/heads/").unwrap_or(target);
                Ok(Self::Unborn(name.to_owned()))
            }
        }
    }
}

/// Returns what `HEAD` points at; nothing on a branch without a commit, and only then.
pub(crate) fn now(repository: &Repository) -> Result<Option<Reference<'_>>, Error> {
    match repository.head() {
        Ok(head) => Ok(Some(head)),
        Err(fault) if fault.code() == ErrorCode::UnbornBranch => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// Finds what was checked out last in the reflog, as git does.
fn detached(repository: &Repository) -> Head {
    let unknown = Head::Detached { from: None, has_moved: false };
    let Ok(log) = repository.reflog("HEAD") else { return unknown };
    let checked_out = log.iter().find_map(|entry| {
        let message = String::from_utf8_lossy(entry.message_bytes()?).into_owned();
        let (_, to) = message.strip_prefix("checkout: moving from ")?.split_once(" to ")?;
        Some((entry.id_new(), to.to_owned()))
    });
    let Some((id, name)) = checked_out else { return unknown };
    let reference = repository.resolve_reference_from_short_name(&name).ok();
    let points_there = |reference: &Reference<'_>| {
        reference.peel_to_commit().is_ok_and(|commit| commit.id() == id)
    };
    let from = match reference.filter(points_there) {
        Some(reference) => String::from_utf8_lossy(reference.shorthand_bytes()).into_owned(),
        None => short(repository, id),
    };
    let now = repository.head().ok().and_then(|head| head.target());
    Head::Detached { from: Some(from), has_moved: now != Some(id) }
}

/// Returns an id as short as git shows it.
pub(crate) fn short(repository: &Repository, id: Oid) -> String {
    let short = repository.find_object(id, None).and_then(|object| object.short_id());
    match short {
        Ok(short) => String::from_utf8_lossy(&short).into_owned(),
        Err(_) => id.to_string().chars().take(7).collect(),
    }
}
