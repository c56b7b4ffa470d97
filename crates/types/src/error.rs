/// What a caller can do about a failure: the only thing that crosses a service's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and stays wrong.
    Invalid,
    /// Nobody known is asking.
    Unauthenticated,
    /// Whoever asks may not; also a private call that nothing local can serve.
    Denied,
    /// The named thing does not exist.
    NotFound,
    /// The same id was used for something else.
    Conflict,
    /// A budget does not cover it; asking again does not help.
    BudgetExceeded,
    /// Too fast; later is fine.
    RateLimited,
    /// Something needed is down, slow or busy; later is fine.
    Unavailable,
    /// Our fault.
    Internal,
}

/// Says of an error what a caller can do about it.
pub trait Classify {
    /// Returns the kind of this error.
    fn kind(&self) -> ErrorKind;
}
