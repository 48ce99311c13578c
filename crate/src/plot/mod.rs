//! Figures: learning curves, grids of images and maps, confusion matrices, bars.
//!
//! Each function returns a [`Figure`], a PNG with a text that says the same. All figures have one page width and one
//! font, which is compiled in, so that they look the same on every machine. They are drawn with `plotters`;
//! colours are Okabe and Ito's and perceptually uniform maps, which colour-blind readers can tell apart.

mod axis;
mod bars;
mod canvas;
mod chart;
mod color;
mod confusion;
mod curves;
mod figure;
mod grid;
mod palette;
mod text;
mod tile;

pub use bars::{Group, bars};
pub use color::{Color, Map, Scale};
pub use confusion::{confusion_matrices, confusion_matrix};
pub use curves::{Panel, Series, curves};
pub use figure::Figure;
pub use grid::{Bar, Grid, image_grid};
pub use tile::{Overlay, Tile, pixels};
