//! What talks to the notebook's kernel: display of figures, tables and source text.

mod display;
mod source;
mod table;

pub(crate) use display::display;
pub use source::{Listing, source};
pub use table::Table;
