//! What talks to the notebook's kernel: display of figures, tables and source text.

mod display;
mod table;

pub(crate) use display::display;
pub use table::Table;
