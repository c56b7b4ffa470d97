//! How a text is read, the same by whoever finds, quotes or checks it: its terms, and the units that say something
//! by themselves. Pure.

mod loosely;
pub mod terms;
mod units;

pub use loosely::find_loosely;
pub use terms::{Reader, each_term, terms};
pub use units::{Kind, Unit, units};
