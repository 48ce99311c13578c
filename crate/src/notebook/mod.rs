//! What talks to the notebook's kernel: display of figures, tables and source text.

mod difference;
mod display;
mod live;
mod source;
mod table;

pub use difference::{Difference, difference};
pub(crate) use display::display;
pub(crate) use live::{Interrupt, cell, kernel};
pub use live::{Place, Show, clear_output, show};
pub use source::{Listing, source};
pub use table::Table;
