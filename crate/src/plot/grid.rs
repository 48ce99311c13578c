//! Grids of images, heatmaps, overlays and matrices.

use std::path::Path;

use ndarray::{Array2, Array3};
use tch::{Device, Kind, Tensor};

use super::canvas::{Canvas, DENSITY, MARGIN, Rect, WIDTH};
use super::text::{Anchor, LABEL, LEADING, number, style, wrap};
use super::{Color, Figure, Map, Scale};
use crate::error::ensure;
use crate::{Error, Result};

/// The least distance of tiles. A whole number of pixels for each value can leave room for a larger one.
const GAP: f32 = 10.0;
const WIDEST_GAP: f32 = 30.0;
const ABOVE_CAPTION: f32 = 5.0;
const ROW_LABEL: f32 = 84.0;
const CAPTION: f32 = 10.5;
const CAPTION_LINES: usize = 2;
/// Opacity of an overlay's highest value. The lowest value is transparent.
const OPACITY: f32 = 0.8;

/// One picture of a grid.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Values [rows, columns], any size.
    pub image: Array2<f32>,
    pub scale: Scale,
    /// The image's colours [rows, columns, 3] in place of `scale`'s, for a photograph.
    pub colors: Option<Array3<u8>>,
    /// A map over the image.
    pub overlay: Option<Overlay>,
    /// Text below the picture, at most two lines.
    pub caption: String,
    /// Colour of the caption and of a frame around the picture, for example for right and wrong predictions.
    pub highlight: Option<Color>,
}

/// A translucent map: opacity grows with the value.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Values [rows, columns], any size.
    pub values: Array2<f32>,
    pub scale: Scale,
}

impl Tile {
    /// A photograph in grey. Its lowest value is black, its highest white.
    pub fn grey(image: Array2<f32>, caption: impl Into<String>) -> Self {
        let scale = Scale::fit(Map::Grey, [&image]);
        Tile::map(image, scale, caption)
    }

    /// Values as colours.
    pub fn map(image: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { image, scale, colors: None, overlay: None, caption: caption.into(), highlight: None }
    }

    /// A photograph of bytes: [3, H, W] in red, green, blue, or in grey [H, W] or [1, H, W].
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn picture(image: &Tensor, caption: impl Into<String>) -> Result<Self> {
        let [3, rows, columns] = image.size()[..] else { return Ok(Tile::grey(pixels(image)?, caption)) };
        let bytes = image.detach().to_device(Device::Cpu).to_kind(Kind::Uint8);
        let interleaved = bytes.permute([1, 2, 0]).contiguous().view([-1]); // [3, H, W] -> [H, W, 3] -> [H * W * 3]
        let size = (rows as usize, columns as usize, 3);
        let colors = Array3::from_shape_vec(size, Vec::<u8>::try_from(interleaved)?).ok();
        let image = pixels(&bytes.to_kind(Kind::Float).mean_dim([0i64].as_slice(), false, Kind::Float))?;
        Ok(Tile { colors, ..Tile::grey(image, caption) })
    }

    /// The same picture under a translucent map.
    pub fn under(self, values: Array2<f32>, scale: Scale) -> Self {
        Tile { overlay: Some(Overlay { values, scale }), ..self }
    }

    /// A photograph in grey under a translucent map.
    pub fn overlay(image: Array2<f32>, values: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile::grey(image, caption).under(values, scale)
    }

    /// The same tile with its caption and a frame in `color`.
    pub fn highlighted(self, color: Color) -> Self {
        Tile { highlight: Some(color), ..self }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let (rows, columns) = self.image.dim();
        let (map_rows, map_columns) = self.overlay.as_ref().map_or((0, 0), |overlay| overlay.values.dim());
        // Draws on the finer grid in each direction; exact if one size divides the other.
        let (fine_rows, fine_columns) = (rows.max(map_rows), columns.max(map_columns));
        canvas.cells(area, fine_rows, fine_columns, |y, x| {
            let (row, column) = (y * rows / fine_rows, x * columns / fine_columns);
            let below = match &self.colors {
                Some(colors) => Color(colors[[row, column, 0]], colors[[row, column, 1]], colors[[row, column, 2]]),
                None => self.scale.color(self.image[[row, column]]),
            };
            let Some(overlay) = &self.overlay else { return below };
            let value = overlay.values[[y * map_rows / fine_rows, x * map_columns / fine_columns]];
            below.under(overlay.scale.color(value), OPACITY * overlay.scale.position(value))
        });
        let (thickness, color) = self.highlight.map_or((0.5, Color::GRID_LINE), |color| (2.5, color));
        canvas.frame(area, thickness, color);
    }
}

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
    /// Draws the grid.
    ///
    /// # Errors
    /// No tile, no column, more than 20 columns, an empty picture, more labels than rows or columns, or a figure too
    /// large for a notebook.
    pub fn figure(&self) -> Result<Figure> {
        Figure::new(self.drawn()?, self.alt())
    }

    /// Draws the grid into a PNG file, which may be larger than a figure in a notebook, as with many photographs.
    ///
    /// # Errors
    /// The same as for [`Grid::figure`], or a file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Figure::of_any_size(self.drawn()?, self.alt())?.save(path)
    }

    fn drawn(&self) -> Result<Canvas> {
        self.check()?;
        let left = MARGIN + if self.row_labels.is_empty() { 0.0 } else { ROW_LABEL };
        let (width, height) = self.tile_size(WIDTH - MARGIN - left);
        let spare = (WIDTH - MARGIN - left - width * self.columns as f32) / (self.columns.max(2) - 1) as f32;
        let gap = spare.clamp(GAP, WIDEST_GAP);
        let x = |column: usize| left + (width + gap) * column as f32;
        let fit = |tile: &Tile| wrap(&tile.caption, CAPTION, false, width + gap - 4.0, CAPTION_LINES);
        let captions: Vec<Vec<String>> = self.tiles.iter().map(fit).collect();
        // The y of each row's tiles and of the end, from the top of the page's body.
        let (mut rows, mut bottom) = (Vec::new(), if self.column_labels.is_empty() { 0.0 } else { 22.0 });
        for row in captions.chunks(self.columns) {
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
        for (label, row) in self.row_labels.iter().zip(&rows) {
            let text = wrap(label, LABEL, false, ROW_LABEL - 8.0, 3);
            let start = top + row + (height - text.len() as f32 * LABEL * LEADING) / 2.0;
            canvas.lines(MARGIN, start, &text, style(LABEL, Color::TEXT, Anchor::Left));
        }
        for (i, (tile, caption)) in self.tiles.iter().zip(&captions).enumerate() {
            let (x, y) = (x(i % self.columns), top + rows[i / self.columns]);
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

/// A one-channel image or a map as an array [H, W]. The tensor has shape [H, W], or dimensions of 1 before these.
///
/// # Errors
/// A tensor of another shape.
pub fn pixels(image: &Tensor) -> Result<Array2<f32>> {
    let size = image.size();
    let picture = match size[..] {
        [ref leading @ .., rows, columns] if leading.iter().all(|&dimension| dimension == 1) => {
            let flat = image.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            Array2::from_shape_vec((rows as usize, columns as usize), Vec::<f32>::try_from(flat)?).ok()
        }
        _ => None,
    };
    picture.ok_or_else(|| {
        Error::argument(format!(
            "a picture has shape [H, W] or [1, H, W], this tensor has {size:?}; pick one image, as with get(0)"
        ))
    })
}

#[cfg(test)]
mod tests {
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
            let (width, _) = grid.tile_size(800.0);
            assert_eq!((width * DENSITY) as usize % values, 0);
            assert!((width + GAP) * columns as f32 <= 800.0 + GAP, "{columns} columns of {width}");
        }
    }

    #[test]
    fn tensors_of_any_kind_become_arrays() {
        let image = Tensor::from_slice(&[0u8, 1, 2, 3, 4, 5]).view([1, 1, 2, 3]);
        assert_eq!(pixels(&image).unwrap(), ndarray::arr2(&[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]));
        assert_eq!(pixels(&image.transpose(2, 3)).unwrap(), ndarray::arr2(&[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]));
        let shape = pixels(&Tensor::zeros([2, 28, 28], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(shape.contains("[2, 28, 28]"), "{shape}");
    }
}
