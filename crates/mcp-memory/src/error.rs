/// Why a call was not done. The caller's model reads it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// No entity goes by this name.
    #[error("Entity with name {0} not found")]
    Missing(String),
    /// More than one answer has.
    #[error("the answer has more than {limit} {what}; ask for less with limit and cursor")]
    TooMuch {
        /// How many it may have.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// Who calls is not known.
    #[error("{0}")]
    Denied(&'static str),
    /// The key that a content was sealed with is not there, or it was changed.
    #[error("a content cannot be opened: its key is not in mcp_memory.key_file, or it was changed")]
    Sealed,
    /// The store failed.
    #[error("the memory's store failed")]
    Store(#[from] sqlx::Error),
}
