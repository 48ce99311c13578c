//! Output of a notebook: rich content, tables, measurements, and listings of the crate's source in Markdown, which JupyterLab and its
//! exports highlight.

mod difference;
mod index;
mod interrupt;
mod measurements;
mod pretrained;
mod show;
mod source;
mod table;

pub use difference::{Difference, difference};
pub use index::Part;
pub(crate) use interrupt::{Interrupt, cell, kernel};
pub use measurements::Measurements;
pub use pretrained::{PHOTOGRAPHS, Pretrained};
pub use show::{DisplayHandle, Show, clear_output, show};
pub use source::{Listing, source};
pub use table::Table;
