//! Grids of images, heatmaps, overlays and matrices.

use std::path::Path;

use super::canvas::{Canvas, DENSITY, MARGIN, WIDTH};
use super::text::{Anchor, LABEL, LEADING, number, style, wrap};
use super::{Color, Figure, Scale, Tile};
use crate::Result;
use crate::error::ensure;

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

impl Grid {
    /// Draws the grid. Photographs in colour keep their colours and are drawn smaller where the figure would be too large
    /// for a notebook.
    ///
    /// # Errors
    /// No tile, no column, more than 20 columns, an empty picture, more labels than rows or columns, or a figure too
    /// large for a notebook.
    pub fn figure(&self) -> Result<Figure> {
        let shrinks = self.tiles.iter().any(|tile| tile.colors.is_some());
        let figure = |share| Figure::new(self.drawn(share)?, self.alt());
        match figure(1.0) {
            Err(_) if shrinks => figure(0.7).or_else(|_| figure(0.5)),
            figure => figure,
        }
    }

    /// Draws the grid into a PNG file, which may be larger than a figure in a notebook, as with many photographs.
    ///
    /// # Errors
    /// The same as for [`Grid::figure`], or a file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Figure::of_any_size(self.drawn(1.0)?, self.alt())?.save(path)
    }

    /// Draws the grid, with tiles of `share` of their greatest size.
    fn drawn(&self, share: f32) -> Result<Canvas> {
        self.check()?;
        let left = MARGIN + if self.row_labels.is_empty() { 0.0 } else { ROW_LABEL };
        let (width, height) = self.tile_size(WIDTH - MARGIN - left, share);
        let spare = (WIDTH - MARGIN - left - width * self.columns as f32) / (self.columns.max(2) - 1) as f32;
        let gap = spare.clamp(GAP, WIDEST_GAP);
        let x = |column: usize| left + (width + gap) * column as f32;
        let fit = |tile: &Tile| wrap(&tile.caption, CAPTION, false, width + gap - 4.0, CAPTION_LINES);
        let captions: Vec<Vec<String>> = self.tiles.iter().map(fit).collect();
        let heights: Vec<f32> = (self.tiles.chunks(self.columns))
            .map(|row| row.iter().map(|tile| tile.height_in((width, height))).fold(0.0, f32::max))
            .collect();
        // The y of each row's tiles and of the end, from the top of the page's body.
        let (mut rows, mut bottom) = (Vec::new(), if self.column_labels.is_empty() { 0.0 } else { 22.0 });
        for (row, height) in captions.chunks(self.columns).zip(&heights) {
            rows.push(bottom);
            let lines = row.iter().map(Vec::len).max().unwrap_or(0) as f32;
            bottom +=
                height + if lines > 0.0 { GAP + ABOVE_CAPTION + lines * CAPTION * LEADING } else { gap.min(18.0) };
        }

        let (mut canvas, top) = Canvas::page(&self.title, bottom + if self.bar.is_some() { 20.0 } else { 0.0 });
        for (i, label) in self.column_labels.iter().enumerate() {
            let text = wrap(label, LABEL, false, width + gap - 4.0, 1).concat();
            canvas.text(x(i) + width / 2.0, top + 9.0, &text, style(LABEL, Color::TEXT, Anchor::Middle));
        }
        for ((label, row), height) in self.row_labels.iter().zip(&rows).zip(&heights) {
            let text = wrap(label, LABEL, false, ROW_LABEL - 8.0, 3);
            let start = top + row + (height - text.len() as f32 * LABEL * LEADING) / 2.0;
            canvas.lines(MARGIN, start, &text, style(LABEL, Color::TEXT, Anchor::Left));
        }
        for (i, (tile, caption)) in self.tiles.iter().zip(&captions).enumerate() {
            let (x, y, height) = (x(i % self.columns), top + rows[i / self.columns], heights[i / self.columns]);
            tile.draw(&mut canvas, (x, y, width, height));
            let color = tile.highlight.unwrap_or(Color::TEXT);
            canvas.lines(x + width / 2.0, y + height + ABOVE_CAPTION, caption, style(CAPTION, color, Anchor::Middle));
        }
        if let Some(bar) = &self.bar {
            canvas.color_bar(left, top + bottom + 4.0, bar.scale, &bar.label);
        }
        Ok(canvas)
    }

    fn check(&self) -> Result<()> {
        let (n, columns) = (self.tiles.len(), self.columns);
        ensure!(
            n > 0 && (1..=20).contains(&columns),
            "{n} pictures in {columns} columns can't be drawn; give at least one picture and 1 to 20 columns"
        );
        for (i, Tile { image, overlay, colors, .. }) in self.tiles.iter().enumerate() {
            let empty = image.is_empty() || overlay.as_ref().is_some_and(|overlay| overlay.values.is_empty());
            ensure!(!empty, "picture {i} has no pixels; leave it out");
            let (rows, columns) = image.dim();
            let fits = colors.as_ref().is_none_or(|colors| colors.dim() == (rows, columns, 3));
            ensure!(fits, "the colours of picture {i} are not [{rows}, {columns}, 3]");
        }
        let (rows, row_labels, column_labels) = (n.div_ceil(columns), self.row_labels.len(), self.column_labels.len());
        ensure!(
            row_labels <= rows && column_labels <= columns,
            "{row_labels} row labels and {column_labels} column labels for {rows} rows and {columns} columns; \
             give at most one for each"
        );
        Ok(())
    }

    /// Width and height of each tile in page units: as wide as the page and legibility allow, times `share`. Each value has
    /// the same whole number of pixels, unless there are more values than pixels.
    fn tile_size(&self, page: f32, share: f32) -> (f32, f32) {
        let columns = self.tiles.iter().map(|tile| tile.image.ncols()).max().unwrap_or(1) as f32;
        let rows = self.tiles.iter().map(|tile| tile.image.nrows()).max().unwrap_or(1) as f32;
        let longer = columns.max(rows);
        let room = (page - GAP * (self.columns - 1) as f32) / self.columns as f32;
        let most = (longer * 6.0).clamp(150.0, 300.0).max(longer / DENSITY);
        let cell = (room / columns).min(most / longer) * share * DENSITY;
        let cell = if cell >= 1.0 { cell.floor() } else { cell };
        (cell * columns / DENSITY, cell * rows / DENSITY)
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
    use ndarray::Array2;

    use super::*;

    fn tile(rows: usize, columns: usize) -> Tile {
        Tile::grey(Array2::from_shape_fn((rows, columns), |(y, x)| (y * columns + x) as f32), "a caption")
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for (tiles, columns, row_labels, contains) in [
            (vec![], 0, vec![], "at least one picture"),
            (vec![tile(2, 2)], 0, vec![], "0 columns"),
            (vec![tile(2, 0)], 1, vec![], "picture 0 has no pixels"),
            (vec![tile(2, 2)], 1, vec!["a".into(), "b".into()], "2 row labels"),
        ] {
            let grid = Grid { tiles, columns, row_labels, ..Grid::default() };
            assert!(grid.figure().unwrap_err().to_string().contains(contains));
        }
    }

    #[test]
    fn each_value_is_drawn_with_the_same_number_of_pixels() {
        for (columns, values) in [(1, 28), (10, 28), (3, 50), (6, 7), (20, 28)] {
            let grid = Grid { tiles: vec![tile(values, values)], columns, ..Grid::default() };
            let (width, _) = grid.tile_size(800.0, 1.0);
            assert_eq!((width * DENSITY) as usize % values, 0);
            assert!((width + GAP) * columns as f32 <= 800.0 + GAP, "{columns} columns of {width}");
        }
    }
}
