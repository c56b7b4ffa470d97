use std::str::FromStr;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reports alone.
    ReadOnly,
    /// Calls, and reports of its own.
    Member,
    /// Calls and reports, and to change limits and providers.
    Operator,
    /// Everything, also to make keys.
    Admin,
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("role {0:?} is not admin, operator, member or read_only")]
pub struct UnknownRole(String);

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::ReadOnly, Self::Member, Self::Operator, Self::Admin];

    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == word);
        known.ok_or_else(|| UnknownRole(word.to_owned()))
    }
}
