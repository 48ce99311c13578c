//! Grids of images, heatmaps, overlays and matrices.

use ndarray::Array2;
use tch::Tensor;

use super::canvas::{Anchor, Canvas, DENSITY, LABEL, MARGIN, Style, WIDTH, number, style};
use super::{Color, Figure, Map, Scale};
use crate::{Error, Result};

const GAP: f32 = 10.0;
const ROW_LABEL: f32 = 84.0;
const CAPTION: f32 = 10.5;
const CAPTION_LINES: usize = 2;
/// How opaque an overlay's highest value is; its lowest is transparent.
const OPACITY: f32 = 0.8;

/// One picture of a grid.
#[derive(Clone, Debug)]
pub struct Tile {
    /// [rows, columns] of values, any size
    pub image: Array2<f32>,
    pub scale: Scale,
    /// A map drawn over the image, of any size.
    pub overlay: Option<Overlay>,
    /// Below the picture, at most two lines.
    pub caption: String,
    /// Of the caption and of a frame around the picture, as for right and wrong.
    pub highlight: Option<Color>,
}

/// A translucent map: the higher the value, the more it covers.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// [rows, columns] of values, any size
    pub values: Array2<f32>,
    pub scale: Scale,
}

impl Tile {
    /// A photograph in grey, from its own darkest to its own lightest value.
    pub fn grey(image: Array2<f32>, caption: impl Into<String>) -> Self {
        let scale = Scale::fit(Map::Grey, [&image]);
        Tile {
            image,
            scale,
            overlay: None,
            caption: caption.into(),
            highlight: None,
        }
    }

    /// Values in colour.
    pub fn map(image: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile {
            image,
            scale,
            overlay: None,
            caption: caption.into(),
            highlight: None,
        }
    }

    /// A photograph in grey under a translucent map.
    pub fn overlay(
        image: Array2<f32>,
        values: Array2<f32>,
        scale: Scale,
        caption: impl Into<String>,
    ) -> Self {
        Tile {
            overlay: Some(Overlay { values, scale }),
            ..Tile::grey(image, caption)
        }
    }

    /// With its caption and a frame in `color`.
    pub fn highlighted(self, color: Color) -> Self {
        Tile {
            highlight: Some(color),
            ..self
        }
    }
}

/// A bar that says what the colours of a grid mean.
#[derive(Clone, Debug)]
pub struct Bar {
    pub scale: Scale,
    /// What is measured, and how it was scaled.
    pub label: String,
}

/// Pictures in rows, read like a text.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    pub title: String,
    pub tiles: Vec<Tile>,
    pub columns: usize,
    /// At the left of each row; empty for none.
    pub row_labels: Vec<String>,
    /// Above each column; empty for none.
    pub column_labels: Vec<String>,
    pub bar: Option<Bar>,
}

/// Pictures in rows of `columns`, see [`Grid`] for labels and a colour bar.
///
/// ```
/// use ndarray::Array2;
/// use vitlab::plot::{Color, Tile, image_grid};
/// let right = Tile::grey(Array2::zeros((28, 28)), "Coat").highlighted(Color::GREEN);
/// let figure = image_grid("Predictions", &[right.clone(), right], 2)?;
/// assert_eq!(figure.alt(), "Predictions. 2 pictures in rows of 2: Coat; Coat.");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// As [`Grid::figure`].
pub fn image_grid(title: &str, tiles: &[Tile], columns: usize) -> Result<Figure> {
    Grid {
        title: title.to_string(),
        tiles: tiles.to_vec(),
        columns,
        ..Grid::default()
    }
    .figure()
}

/// Captioned matrices in colour, as attention of S × S tokens: with `common` all on one scale that a colour bar
/// explains, else each on its own, whose ends stand in the caption.
///
/// # Errors
/// As [`Grid::figure`].
pub fn matrices(
    title: &str,
    items: &[(String, Array2<f32>)],
    columns: usize,
    map: Map,
    common: bool,
) -> Result<Figure> {
    let shared = Scale::fit(map, items.iter().map(|(_, values)| values));
    let tile = |(caption, values): &(String, Array2<f32>)| {
        if common {
            return Tile::map(values.clone(), shared, caption);
        }
        let scale = Scale::fit(map, [values]);
        Tile::map(
            values.clone(),
            scale,
            format!("{caption}\n{} to {}", number(scale.low), number(scale.high)),
        )
    };
    Grid {
        title: title.to_string(),
        tiles: items.iter().map(tile).collect(),
        columns,
        bar: common.then(|| Bar {
            scale: shared,
            label: "one scale for all".to_string(),
        }),
        ..Grid::default()
    }
    .figure()
}

/// A one-channel image or a map on any device as an array: [H, W], or with leading dimensions of 1.
///
/// # Errors
/// Another shape.
pub fn pixels(image: &Tensor) -> Result<Array2<f32>> {
    let size = image.size();
    let (leading, [rows, columns]) = match size.split_last_chunk::<2>() {
        Some((leading, last)) if leading.iter().all(|&dim| dim == 1) => (leading, *last),
        _ => {
            return Err(Error::argument(format!(
                "a picture has shape [H, W] or [1, H, W], this tensor has {size:?}; pick one image, as with get(0)"
            )));
        }
    };
    debug_assert!(leading.len() + 2 == size.len());
    let flat = image
        .detach()
        .to_device(tch::Device::Cpu)
        .to_kind(tch::Kind::Float)
        .contiguous()
        .view([-1]);
    let values = Vec::<f32>::try_from(flat)?;
    Array2::from_shape_vec((rows as usize, columns as usize), values).map_err(|error| {
        Error::argument(format!(
            "a picture of shape {size:?} can't be drawn ({error})"
        ))
    })
}

impl Grid {
    /// # Errors
    /// No tile, no column, more than 20 columns, an empty picture, more labels than rows or columns, or a figure too
    /// large for a notebook.
    pub fn figure(&self) -> Result<Figure> {
        self.check()?;
        let rows = self.tiles.len().div_ceil(self.columns);
        let labels = if self.row_labels.is_empty() {
            0.0
        } else {
            ROW_LABEL
        };
        let (width, height) = self.tile_size(WIDTH - 2.0 * MARGIN - labels);
        let captions: Vec<Vec<String>> = {
            let fonts = super::canvas::Fonts::new();
            let fit = |tile: &Tile| {
                fonts.wrap(
                    &tile.caption,
                    CAPTION,
                    false,
                    width + GAP - 4.0,
                    CAPTION_LINES,
                )
            };
            self.tiles.iter().map(fit).collect()
        };
        let lines = captions.iter().map(Vec::len).max().unwrap_or(0);
        let row_height = height
            + GAP
            + if lines > 0 {
                5.0 + lines as f32 * CAPTION * 1.35
            } else {
                0.0
            };
        let header = if self.column_labels.is_empty() {
            0.0
        } else {
            22.0
        };
        let footer = if self.bar.is_some() { 24.0 } else { 0.0 };

        let (mut canvas, top) =
            Canvas::page(&self.title, header + row_height * rows as f32 + footer);
        let left = MARGIN + labels;
        for (i, label) in self.column_labels.iter().enumerate() {
            let x = left + (width + GAP) * i as f32 + width / 2.0;
            let text = canvas
                .fonts
                .wrap(label, LABEL, false, width + GAP - 4.0, 1)
                .concat();
            canvas.text(
                x,
                top + 9.0,
                &text,
                style(LABEL, Color::SOFT, Anchor::Middle),
            );
        }
        for (i, label) in self.row_labels.iter().enumerate() {
            let middle = top + header + row_height * i as f32 + height / 2.0;
            let text = canvas.fonts.wrap(label, LABEL, false, ROW_LABEL - 8.0, 3);
            let start = middle - text.len() as f32 * LABEL * 0.675;
            canvas.lines(MARGIN, start, &text, style(LABEL, Color::INK, Anchor::Left));
        }
        for (i, (tile, caption)) in self.tiles.iter().zip(&captions).enumerate() {
            let x = left + (width + GAP) * (i % self.columns) as f32;
            let y = top + header + row_height * (i / self.columns) as f32;
            tile.draw(&mut canvas, (x, y, width, height));
            let text = Style {
                bold: false,
                ..style(
                    CAPTION,
                    tile.highlight.unwrap_or(Color::INK),
                    Anchor::Middle,
                )
            };
            canvas.lines(x + width / 2.0, y + height + 5.0, caption, text);
        }
        if let Some(bar) = &self.bar {
            canvas.color_bar(
                left,
                top + header + row_height * rows as f32 + 4.0,
                bar.scale,
                &bar.label,
            );
        }
        Figure::new(canvas, self.alt())
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
            tile.image.is_empty()
                || tile
                    .overlay
                    .as_ref()
                    .is_some_and(|overlay| overlay.values.is_empty())
        };
        if let Some(i) = self.tiles.iter().position(empty) {
            return Err(Error::argument(format!(
                "picture {i} has no pixels; leave it out"
            )));
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

    /// Of each tile in page units: as wide as the page allows, but not enlarged beyond what reads well, and a whole
    /// number of pixels for each value, so that all values appear equally large.
    fn tile_size(&self, page: f32) -> (f32, f32) {
        let columns = self
            .tiles
            .iter()
            .map(|tile| tile.image.ncols())
            .max()
            .unwrap_or(1);
        let rows = self
            .tiles
            .iter()
            .map(|tile| tile.image.nrows())
            .max()
            .unwrap_or(1);
        let room = (page - GAP * (self.columns - 1) as f32) / self.columns as f32;
        let width = room.min((columns as f32 * 4.6).clamp(128.0, 260.0)) * DENSITY;
        let cell = if width >= columns as f32 {
            (width / columns as f32).floor()
        } else {
            width / columns as f32
        };
        (
            cell * columns as f32 / DENSITY,
            cell * rows as f32 / DENSITY,
        )
    }

    fn alt(&self) -> String {
        let captions: Vec<String> = self
            .tiles
            .iter()
            .map(|tile| tile.caption.replace('\n', ", "))
            .collect();
        let mut text = format!(
            "{}. {} pictures in rows of {}",
            self.title.trim_end_matches('.'),
            self.tiles.len(),
            self.columns
        );
        if captions.iter().any(|caption| !caption.is_empty()) {
            text += &format!(": {}", captions.join("; "));
        }
        if let Some(bar) = &self.bar {
            text += &format!(
                ". Colours from {} to {}: {}",
                number(bar.scale.low),
                number(bar.scale.high),
                bar.label
            );
        }
        text + "."
    }
}

impl Tile {
    fn draw(&self, canvas: &mut Canvas, area: (f32, f32, f32, f32)) {
        let (rows, columns) = self.image.dim();
        match &self.overlay {
            None => canvas.cells(area, rows, columns, |y, x| {
                self.scale.color(self.image[[y, x]])
            }),
            Some(overlay) => {
                let (map_rows, map_columns) = overlay.values.dim();
                // The finer of the two grids in each direction shows both without loss when one divides the other.
                let (fine_rows, fine_columns) = (rows.max(map_rows), columns.max(map_columns));
                canvas.cells(area, fine_rows, fine_columns, |y, x| {
                    let at = |from: usize, fine: usize, i: usize| i * from / fine;
                    let below = self
                        .scale
                        .color(self.image[[at(rows, fine_rows, y), at(columns, fine_columns, x)]]);
                    let value = overlay.values
                        [[at(map_rows, fine_rows, y), at(map_columns, fine_columns, x)]];
                    below.under(
                        overlay.scale.color(value),
                        OPACITY * overlay.scale.share(value),
                    )
                });
            }
        }
        let (x, y, width, height) = area;
        match self.highlight {
            Some(color) => canvas.frame(x, y, width, height, 2.5, color),
            None => canvas.frame(x, y, width, height, 0.5, Color::LINE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(rows: usize, columns: usize) -> Tile {
        Tile::grey(
            Array2::from_shape_fn((rows, columns), |(y, x)| (y * columns + x) as f32),
            "a caption",
        )
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let message = |grid: Grid| grid.figure().unwrap_err().to_string();
        assert!(message(Grid::default()).contains("at least one picture"));
        assert!(
            message(Grid {
                tiles: vec![tile(2, 2)],
                ..Grid::default()
            })
            .contains("0 columns")
        );
        assert!(
            message(Grid {
                tiles: vec![tile(2, 0)],
                columns: 1,
                ..Grid::default()
            })
            .contains("picture 0 has no pixels")
        );
        let row_labels = vec!["a".to_string(), "b".to_string()];
        assert!(
            message(Grid {
                tiles: vec![tile(2, 2)],
                columns: 1,
                row_labels,
                ..Grid::default()
            })
            .contains("2 row labels")
        );
        let shape = pixels(&Tensor::zeros(
            [2, 28, 28],
            (tch::Kind::Float, tch::Device::Cpu),
        ))
        .unwrap_err()
        .to_string();
        assert!(shape.contains("[2, 28, 28]"), "{shape}");
    }

    #[test]
    fn tensors_of_any_kind_become_arrays() {
        let image = Tensor::from_slice(&[0u8, 1, 2, 3, 4, 5]).view([1, 1, 2, 3]);
        assert_eq!(
            pixels(&image).unwrap(),
            ndarray::arr2(&[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
        );
        assert_eq!(
            pixels(&image.transpose(2, 3)).unwrap(),
            ndarray::arr2(&[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]])
        );
    }

    #[test]
    fn each_value_is_drawn_with_the_same_number_of_pixels() {
        for (columns, values) in [(1, 28), (10, 28), (3, 50), (6, 7), (20, 28)] {
            let grid = Grid {
                tiles: vec![tile(values, values)],
                columns,
                ..Grid::default()
            };
            let (width, _) = grid.tile_size(800.0);
            assert_eq!((width * DENSITY) as usize % values, 0);
            assert!(
                (width + GAP) * columns as f32 <= 800.0 + GAP,
                "{columns} columns of {width}"
            );
        }
    }

    #[test]
    fn own_scales_stand_in_the_captions_and_a_common_one_in_the_bar() {
        let items = [
            ("one".to_string(), ndarray::arr2(&[[0.0, 0.5]])),
            ("two".to_string(), ndarray::arr2(&[[1.0, 2.0]])),
        ];
        let own = matrices("Matrices", &items, 2, Map::Viridis, false).unwrap();
        assert!(
            own.alt().contains("one, 0 to 0.50; two, 1 to 2"),
            "{}",
            own.alt()
        );
        let common = matrices("Matrices", &items, 2, Map::Viridis, true).unwrap();
        assert!(
            common.alt().contains("Colours from 0 to 2"),
            "{}",
            common.alt()
        );
    }
}
