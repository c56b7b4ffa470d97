//! What replicas of the router share through Redis, when there is one.

mod breakers;
mod link;

pub(crate) use breakers::{may_probe, share};
pub(crate) use link::Link;
