//! What talks to the notebook's kernel: display of figures, tables and source text.

mod difference;
mod display;
mod source;
mod table;

pub use difference::{Difference, difference};
pub(crate) use display::display;
pub use source::{Listing, source};
pub use table::Table;
