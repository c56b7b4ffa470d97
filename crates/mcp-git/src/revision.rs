//! Names of commits, trees and files, as callers give them.

use git2::{Commit, Object, Repository};

use crate::Error;

/// How long a name may be.
const LONGEST: usize = 1024;

/// Refuses what could be taken for an option, or is no name; `what` is said of it.
pub(crate) fn named<'a>(what: &str, name: &'a str) -> Result<&'a str, Error> {
    if name.starts_with('-') {
        return Err(Error::Invalid(format!("Invalid {what}: '{name}' - cannot start with '-'")));
    }
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "Invalid {what}: 1 to {LONGEST} bytes without control characters"
        )));
    }
    Ok(name)
}

/// Returns the object that `name` means.
pub(crate) fn object<'r>(
    repository: &'r Repository,
    what: &str,
    name: &str,
) -> Result<Object<'r>, Error> {
    repository.revparse_single(named(what, name)?).map_err(Error::unknown(name))
}

/// Returns the commit that `name` means, or that a tag of this name points at.
pub(crate) fn commit<'r>(
    repository: &'r Repository,
    what: &str,
    name: &str,
) -> Result<Commit<'r>, Error> {
    let found = object(repository, what, name)?;
    found.peel_to_commit().map_err(Error::unknown(name))
}
