//! Figures: curves, bars, confusion matrices, grids of images and maps, diagrams of the architectures.
//!
//! Each function returns a [`Figure`]: a PNG with an alternative text that says the same. All figures have one page width
//! and one compiled-in font, so that they look the same on every machine. They are drawn with `plotters`. Their colours
//! are the palette of Okabe and Ito and perceptually uniform maps, which colour-blind readers can tell apart.

mod architecture;
mod axis;
mod bars;
mod canvas;
mod chart;
mod confusion;
mod curves;
mod diagram;
mod figure;
mod grid;
mod overlay;
mod palette;
mod panel;
mod text;
mod tile;

pub use architecture::{deit_architecture, vit_architecture};
pub use bars::{Group, bars};
pub use confusion::{confusion_matrices, confusion_matrix};
pub use curves::curves;
pub use figure::Figure;
pub use grid::{Bar, Grid, image_grid};
pub use overlay::{Overlay, OverlayStyle};
pub use palette::{Color, Map, Scale};
pub use panel::{Panel, Series};
pub use tile::{Tile, pixels};
