use std::path::{Component, Path};

use globset::{GlobBuilder, GlobMatcher};

use crate::Error;

/// Which names are left alone, wherever they stand on a path.
#[derive(Debug)]
pub(crate) struct Policy {
    forbidden: Vec<GlobMatcher>,
}

impl Policy {
    pub(crate) fn new(forbidden: &[String]) -> anyhow::Result<Self> {
        let forbidden = forbidden.iter().map(|pattern| {
            // A file keeps its name when a directory above it is moved, but not its path.
            anyhow::ensure!(!pattern.contains('/'), "{pattern:?} is a path; give a name");
            Ok(GlobBuilder::new(pattern).case_insensitive(true).build()?.compile_matcher())
        });
        Ok(Self { forbidden: forbidden.collect::<anyhow::Result<_>>()? })
    }

    /// Refuses `inside` if one of its names is forbidden. `path` is how it was given.
    pub(crate) fn reach(&self, path: &str, inside: &Path) -> Result<(), Error> {
        let names = inside.components().filter(|part| matches!(part, Component::Normal(_)));
        for name in names {
            if let Some(found) = self.forbidden.iter().find(|glob| glob.is_match(name)) {
                let (path, pattern) = (path.to_owned(), found.glob().to_string());
                return Err(Error::Forbidden { path, pattern });
            }
        }
        Ok(())
    }

    /// Refuses `inside` also if git would find there what it runs: hooks, filters, other repositories.
    pub(crate) fn write(&self, path: &str, inside: &Path) -> Result<(), Error> {
        self.reach(path, inside)?;
        let mut names = inside.components();
        match names.any(|name| name.as_os_str().eq_ignore_ascii_case(".git")) {
            true => Err(Error::Git(path.to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_forbidden_wherever_it_stands_and_in_whatever_case() {
        let policy = Policy::new(&[".env".into(), "*.pem".into(), "secrets".into()]).unwrap();
        for path in [".env", "a/.ENV", "a/b.pem", "Secrets/x", "x.pem/y"] {
            assert!(policy.reach(path, Path::new(path)).is_err(), "{path}");
        }
        for path in ["", ".", "env", ".env.example", "pem", "a/my-secrets/x"] {
            assert!(policy.reach(path, Path::new(path)).is_ok(), "{path}");
        }
        assert!(Policy::new(&["a/b".into()]).is_err());
        assert!(Policy::new(&["[".into()]).is_err());
    }

    #[test]
    fn what_belongs_to_git_is_read_and_not_written() {
        let policy = Policy::new(&[]).unwrap();
        for path in [".git", ".git/hooks/pre-commit", "a/.GIT/config", "vendor/.Git"] {
            assert!(matches!(policy.write(path, Path::new(path)), Err(Error::Git(_))), "{path}");
            assert!(policy.reach(path, Path::new(path)).is_ok());
        }
        for path in [".gitignore", ".github/workflows/x.yml", "git/x"] {
            assert!(policy.write(path, Path::new(path)).is_ok(), "{path}");
        }
    }
}
