//! Tokens of identity providers: whom they stand for, and where clients learn who gives them.
//!
//! Whoever is asked for something, a gateway or a bridge, makes [`Issuers`] of what its configuration says
//! and asks them about what a client shows. A token goes no further than here.

mod claims;
mod config;
mod error;
mod issuers;
mod resource;
mod set;
mod signature;

pub use claims::Identity;
pub use config::Issuer;
pub use error::Error;
pub use issuers::Issuers;
pub use resource::Resource;

#[cfg(test)]
mod tests;
