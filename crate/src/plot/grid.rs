//! Grids of images, heatmaps, overlays and matrices.

use super::canvas::{Canvas, DENSITY, MARGIN, WIDTH};
use super::text::{Anchor, LABEL, LEADING, number, style, wrap};
use super::{Color, Figure, Scale, Tile};
use crate::{Error, Result};

/// The least distance of tiles. A whole number of pixels for each value can leave room for a larger one.
const GAP: f32 = 10.0;
const WIDEST_GAP: f32 = 30.0;
const ABOVE_CAPTION: f32 = 5.0;
const ROW_LABEL: f32 = 84.0;
const CAPTION: f32 = 10.5;
const CAPTION_LINES: usize = 2;

/// The colour bar of a grid.
#[derive(Clone, Debug)]
pub struct Bar {
    pub scale: Scale,
    /// The quantity and how it was scaled.
    pub label: String,
}

/// Pictures in rows, from left to right and from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    pub title: String,
    pub tiles: Vec<Tile>,
    pub columns: usize,
    /// Labels at the left of the rows; may be empty.
    pub row_labels: Vec<String>,
    /// Labels above the columns; may be empty.
    pub column_labels: Vec<String>,
    pub bar: Option<Bar>,
}

/// Pictures in rows of `columns`. [`Grid`] has labels and a colour bar as well.
///
/// ```
/// use ndarray::Array2;
/// use vitlab::plot::{Color, Tile, image_grid};
/// let right = Tile::grey(Array2::zeros((28, 28)), "Coat").highlighted(Color::GREEN);
/// let figure = image_grid("Predictions", &[right.clone(), right], 2)?;
/// assert_eq!(figure.alt(), "Predictions. 2 pictures. Captions: Coat; Coat.");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// The same as for [`Grid::figure`].
pub fn image_grid(title: &str, tiles: &[Tile], columns: usize) -> Result<Figure> {
    Grid { title: title.to_string(), tiles: tiles.to_vec(), columns, ..Grid::default() }.figure()
}

/// Positions in page units. The y of the page's body is 0.
struct Layout {
    left: f32,
    /// Width of a tile.
    width: f32,
    /// Height of a tile.
    height: f32,
    /// Between tiles.
    gap: f32,
    /// Top of each row.
    rows: Vec<f32>,
    bottom: f32,
    /// The caption of each tile in lines.
    captions: Vec<Vec<String>>,
}

impl Layout {
    fn x(&self, column: usize) -> f32 {
        self.left + (self.width + self.gap) * column as f32
    }
}

impl Grid {
    /// Draws the grid.
    ///
    /// # Errors
    /// No tile, no column, more than 20 columns, an empty picture, more labels than rows or columns, or a figure too
    /// large for a notebook.
    pub fn figure(&self) -> Result<Figure> {
        self.check()?;
        let layout = self.layout();
        let (mut canvas, top) = Canvas::page(&self.title, layout.bottom + if self.bar.is_some() { 20.0 } else { 0.0 });
        for (i, label) in self.column_labels.iter().enumerate() {
            let text = wrap(label, LABEL, false, layout.width + layout.gap - 4.0, 1).concat();
            canvas.text(layout.x(i) + layout.width / 2.0, top + 9.0, &text, style(LABEL, Color::INK, Anchor::Middle));
        }
        for (label, row) in self.row_labels.iter().zip(&layout.rows) {
            let text = wrap(label, LABEL, false, ROW_LABEL - 8.0, 3);
            let start = top + row + (layout.height - text.len() as f32 * LABEL * LEADING) / 2.0;
            canvas.lines(MARGIN, start, &text, style(LABEL, Color::INK, Anchor::Left));
        }
        for (i, (tile, caption)) in self.tiles.iter().zip(&layout.captions).enumerate() {
            let (x, y) = (layout.x(i % self.columns), top + layout.rows[i / self.columns]);
            tile.draw(&mut canvas, (x, y, layout.width, layout.height));
            let color = tile.highlight.unwrap_or(Color::INK);
            let below = y + layout.height + ABOVE_CAPTION;
            canvas.lines(x + layout.width / 2.0, below, caption, style(CAPTION, color, Anchor::Middle));
        }
        if let Some(bar) = &self.bar {
            canvas.color_bar(layout.x(0), top + layout.bottom + 4.0, bar.scale, &bar.label);
        }
        Figure::new(canvas, self.alt())
    }

    fn layout(&self) -> Layout {
        let left = MARGIN + if self.row_labels.is_empty() { 0.0 } else { ROW_LABEL };
        let (width, height) = self.tile_size(WIDTH - MARGIN - left);
        let spare = (WIDTH - MARGIN - left - width * self.columns as f32) / (self.columns.max(2) - 1) as f32;
        let gap = spare.clamp(GAP, WIDEST_GAP);
        let fit = |tile: &Tile| wrap(&tile.caption, CAPTION, false, width + gap - 4.0, CAPTION_LINES);
        let captions: Vec<Vec<String>> = self.tiles.iter().map(fit).collect();
        let mut bottom = if self.column_labels.is_empty() { 0.0 } else { 22.0 };
        let mut rows = Vec::new();
        for row in captions.chunks(self.columns) {
            rows.push(bottom);
            let lines = row.iter().map(Vec::len).max().unwrap_or(0) as f32;
            bottom +=
                height + if lines > 0.0 { GAP + ABOVE_CAPTION + lines * CAPTION * LEADING } else { gap.min(18.0) };
        }
        Layout { left, width, height, gap, rows, bottom, captions }
    }

    fn check(&self) -> Result<()> {
        if self.tiles.is_empty() || !(1..=20).contains(&self.columns) {
            return Err(Error::argument(format!(
                "{} pictures in {} columns can't be drawn; give at least one picture and 1 to 20 columns",
                self.tiles.len(),
                self.columns
            )));
        }
        let empty = |tile: &Tile| {
            tile.image.is_empty() || tile.overlay.as_ref().is_some_and(|overlay| overlay.values.is_empty())
        };
        if let Some(i) = self.tiles.iter().position(empty) {
            return Err(Error::argument(format!("picture {i} has no pixels; leave it out")));
        }
        let rows = self.tiles.len().div_ceil(self.columns);
        if self.row_labels.len() > rows || self.column_labels.len() > self.columns {
            return Err(Error::argument(format!(
                "{} row labels and {} column labels for {rows} rows and {} columns; give at most one for each",
                self.row_labels.len(),
                self.column_labels.len(),
                self.columns
            )));
        }
        Ok(())
    }

    /// Width and height of each tile in page units: as wide as the page and legibility allow. Each value has the same whole
    /// number of pixels, unless there are more values than pixels.
    fn tile_size(&self, page: f32) -> (f32, f32) {
        let columns = self.tiles.iter().map(|tile| tile.image.ncols()).max().unwrap_or(1);
        let rows = self.tiles.iter().map(|tile| tile.image.nrows()).max().unwrap_or(1);
        let room = (page - GAP * (self.columns - 1) as f32) / self.columns as f32;
        let width = room.min((columns as f32 * 6.0).clamp(150.0, 300.0)) * DENSITY;
        let cell = if width >= columns as f32 { (width / columns as f32).floor() } else { width / columns as f32 };
        (cell * columns as f32 / DENSITY, cell * rows as f32 / DENSITY)
    }

    fn alt(&self) -> String {
        let pictures = if self.tiles.len() == 1 { "picture" } else { "pictures" };
        let mut text = format!("{}. {} {pictures}", self.title.trim_end_matches('.'), self.tiles.len());
        let captions = self.tiles.iter().map(|tile| tile.caption.replace('\n', ", "));
        let captions: Vec<String> = captions.filter(|caption| !caption.is_empty()).collect();
        let lists =
            [("Rows", &self.row_labels, ", "), ("Columns", &self.column_labels, ", "), ("Captions", &captions, "; ")];
        for (name, texts, separator) in lists.into_iter().filter(|(_, texts, _)| !texts.is_empty()) {
            text += &format!(". {name}: {}", texts.join(separator));
        }
        if let Some(bar) = &self.bar {
            text += &format!(". Colours from {} to {}: {}", number(bar.scale.low), number(bar.scale.high), bar.label);
        }
        text + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(rows: usize, columns: usize) -> Tile {
        Tile::grey(ndarray::Array2::from_shape_fn((rows, columns), |(y, x)| (y * columns + x) as f32), "a caption")
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let message = |grid: Grid| grid.figure().unwrap_err().to_string();
        assert!(message(Grid::default()).contains("at least one picture"));
        assert!(message(Grid { tiles: vec![tile(2, 2)], ..Grid::default() }).contains("0 columns"));
        assert!(
            message(Grid { tiles: vec![tile(2, 0)], columns: 1, ..Grid::default() })
                .contains("picture 0 has no pixels")
        );
        let row_labels = vec!["a".to_string(), "b".to_string()];
        assert!(
            message(Grid { tiles: vec![tile(2, 2)], columns: 1, row_labels, ..Grid::default() })
                .contains("2 row labels")
        );
    }

    #[test]
    fn each_value_is_drawn_with_the_same_number_of_pixels() {
        for (columns, values) in [(1, 28), (10, 28), (3, 50), (6, 7), (20, 28)] {
            let grid = Grid { tiles: vec![tile(values, values)], columns, ..Grid::default() };
            let (width, _) = grid.tile_size(800.0);
            assert_eq!((width * DENSITY) as usize % values, 0);
            assert!((width + GAP) * columns as f32 <= 800.0 + GAP, "{columns} columns of {width}");
        }
    }
}
