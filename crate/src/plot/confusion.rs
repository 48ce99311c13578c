//! Confusion matrices.

use ndarray::Array2;

use super::canvas::{Canvas, MARGIN, WIDTH};
use super::text::{Anchor, LABEL, LEADING, SMALL, Style, style, wrap};
use super::{Color, Figure, Map, Scale};
use crate::Result;
use crate::error::ensure;

const NAMES_WIDTH: f32 = 96.0;
const CELL_HEIGHT: f32 = 34.0;
const RECALLS_WIDTH: f32 = 66.0;
const MAX_CLASSES: usize = 12;
const NOTE: &str = "Numbers are images; the colour is their share of the row.";
const NUMBERED_NAMES_WIDTH: f32 = 100.0;
const MATRIX_GAP: f32 = 22.0;
const PAIR_CELL_HEIGHT: f32 = 28.0;

/// Counts [true class, predicted class] as numbers, coloured by their share of the row. The column at the right is the
/// recall of each class.
///
/// ```
/// let counts = ndarray::arr2(&[[8, 2], [1, 9]]);
/// let figure = vitlab::plot::confusion_matrix("Test images", &counts, &["cat", "dog"])?;
/// assert_eq!(figure.alt(), "Test images. Confusion matrix of 20 images: 85.0 % right. Most frequent confusion: 2 × cat taken for dog.");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// A matrix that is not square with one row per name, or has more than 12 classes.
pub fn confusion_matrix(title: &str, counts: &Array2<u64>, class_names: &[&str]) -> Result<Figure> {
    check(counts, class_names)?;
    let n = class_names.len();
    let left = MARGIN + NAMES_WIDTH;
    let cell = ((WIDTH - MARGIN - RECALLS_WIDTH - left) / n as f32).min(90.0).floor();
    let names: Vec<Vec<String>> = class_names.iter().map(|name| wrap(name, SMALL, false, cell - 2.0, 2)).collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or(0);
    let header = 30.0 + lines as f32 * SMALL * LEADING;
    let (mut canvas, top) = Canvas::page(title, header + CELL_HEIGHT * n as f32 + 24.0);
    let first = top + header;
    let right = left + cell * n as f32;
    let soft = |anchor| style(LABEL, Color::AXIS_TEXT, anchor);
    canvas.text(left, top + 9.0, "Predicted class", soft(Anchor::Left));
    canvas.text(MARGIN, top + 9.0, "True class", soft(Anchor::Left));
    canvas.text(right + RECALLS_WIDTH, top + 9.0, "Recognised", soft(Anchor::Right));

    for (i, name) in class_names.iter().enumerate() {
        let x = left + cell * (i as f32 + 0.5);
        let above = first - 6.0 - names[i].len() as f32 * SMALL * LEADING;
        canvas.lines(x, above, &names[i], style(SMALL, Color::TEXT, Anchor::Middle));

        let y = first + CELL_HEIGHT * i as f32;
        let middle = y + CELL_HEIGHT / 2.0;
        let name = wrap(name, SMALL, false, NAMES_WIDTH - 8.0, 1).concat();
        canvas.text(left - 8.0, middle, &name, style(SMALL, Color::TEXT, Anchor::Right));
        let total: u64 = counts.row(i).sum();
        row(&mut canvas, counts, i, (left, y), (cell, CELL_HEIGHT));
        let recognised = if total == 0 { "–".into() } else { percent(counts[[i, i]], total) };
        canvas.text(right + RECALLS_WIDTH, middle, &recognised, style(SMALL, Color::TEXT, Anchor::Right));
    }
    canvas.text(left, first + CELL_HEIGHT * n as f32 + 16.0, NOTE, style(SMALL, Color::AXIS_TEXT, Anchor::Left));
    Figure::new(canvas, alt(title, counts, class_names))
}

/// Two matrices of the same classes side by side, each below its name, coloured as in [`confusion_matrix`]. The columns are
/// labelled with the numbers of the classes, which the rows show after the names.
///
/// ```
/// let (first, second) = (ndarray::arr2(&[[8, 2], [1, 9]]), ndarray::arr2(&[[9, 1], [0, 10]]));
/// let figure = vitlab::plot::confusion_matrices("Test images", [("CNN", &first), ("ViT", &second)], &["cat", "dog"])?;
/// assert!(figure.alt().starts_with("Test images. CNN. Confusion matrix of 20 images: 85.0 % right."));
/// assert!(figure.alt().contains(" ViT. Confusion matrix of 20 images: 95.0 % right."));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// The same as for [`confusion_matrix`], for either matrix.
pub fn confusion_matrices(title: &str, pair: [(&str, &Array2<u64>); 2], class_names: &[&str]) -> Result<Figure> {
    for (_, counts) in pair {
        check(counts, class_names)?;
    }
    let n = class_names.len() as f32;
    let left = MARGIN + NUMBERED_NAMES_WIDTH;
    let half = (WIDTH - MARGIN - left - MATRIX_GAP) / 2.0;
    let cell = (half / n).min(60.0).floor();
    let header = 56.0;
    let (mut canvas, top) = Canvas::page(title, header + PAIR_CELL_HEIGHT * n + 24.0);
    let first = top + header;
    let middle = |i: usize| first + PAIR_CELL_HEIGHT * (i as f32 + 0.5);
    canvas.text(MARGIN, top + 28.0, "True class", style(LABEL, Color::AXIS_TEXT, Anchor::Left));
    for (i, name) in class_names.iter().enumerate() {
        let name = format!("{name}  {i}");
        canvas.text(left - 8.0, middle(i), &name, style(SMALL, Color::TEXT, Anchor::Right));
    }
    for ((name, counts), x) in pair.into_iter().zip([left, left + half + MATRIX_GAP]) {
        let bold = Style { bold: true, ..style(LABEL, Color::TEXT, Anchor::Left) };
        let total = counts.sum().max(1);
        let name = format!("{name}: {} right", percent(counts.diag().sum(), total));
        canvas.text(x, top + 9.0, &name, bold);
        canvas.text(x, top + 28.0, "Predicted class", style(LABEL, Color::AXIS_TEXT, Anchor::Left));
        for i in 0..class_names.len() {
            let center = x + cell * (i as f32 + 0.5);
            canvas.text(center, top + 46.0, &i.to_string(), style(SMALL, Color::TEXT, Anchor::Middle));
            row(&mut canvas, counts, i, (x, middle(i) - PAIR_CELL_HEIGHT / 2.0), (cell, PAIR_CELL_HEIGHT));
        }
    }
    canvas.text(left, first + PAIR_CELL_HEIGHT * n + 16.0, NOTE, style(SMALL, Color::AXIS_TEXT, Anchor::Left));
    let alts = pair.map(|(name, counts)| alt(name, counts, class_names));
    let title = title.trim_end_matches('.');
    Figure::new(canvas, format!("{title}. {}", alts.join(" ")))
}

fn check(counts: &Array2<u64>, class_names: &[&str]) -> Result<()> {
    let n = class_names.len();
    ensure!(
        counts.dim() == (n, n) && (1..=MAX_CLASSES).contains(&n),
        "a confusion matrix of shape {:?} doesn't fit {n} class names; give one row and one column per class, at most {MAX_CLASSES}",
        counts.shape()
    );
    Ok(())
}

/// Draws the cells of the true class `i` from the corner (x, y), each of size `cell` (width, height).
fn row(canvas: &mut Canvas, counts: &Array2<u64>, i: usize, (x, y): (f32, f32), cell: (f32, f32)) {
    let shares = Scale { map: Map::Blues, low: 0.0, high: 1.15 }; // leaves out the darkest blues
    let total: u64 = counts.row(i).sum();
    for (j, &count) in counts.row(i).iter().enumerate() {
        let background = shares.color(count as f32 / total.max(1) as f32);
        let color = if count == 0 { Color::AXIS } else { background.text_on() };
        let x = x + cell.0 * j as f32;
        canvas.rect(x + 0.5, y + 0.5, cell.0 - 1.0, cell.1 - 1.0, background);
        let number = Style { bold: i == j, ..style(SMALL, color, Anchor::Middle) };
        canvas.text(x + cell.0 / 2.0, y + cell.1 / 2.0, &count.to_string(), number);
    }
}

/// A share with one decimal, or with two if it is one of more than 1000 images.
fn percent(part: u64, total: u64) -> String {
    let digits = if total > 1000 { 2 } else { 1 };
    format!("{:.digits$} %", 100.0 * part as f64 / total as f64)
}

fn alt(title: &str, counts: &Array2<u64>, class_names: &[&str]) -> String {
    let total = counts.sum();
    let mut text = format!("{}. Confusion matrix of {total} images", title.trim_end_matches('.'));
    if total > 0 {
        text += &format!(": {} right", percent(counts.diag().sum(), total));
    }
    let confusions = counts.indexed_iter().filter(|((i, j), count)| i != j && **count > 0);
    if let Some(((i, j), count)) = confusions.max_by_key(|(_, count)| **count) {
        text += &format!(". Most frequent confusion: {count} × {} taken for {}", class_names[i], class_names[j]);
    }
    text + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let message =
            |shape, names: &[&str]| confusion_matrix("", &Array2::zeros(shape), names).unwrap_err().to_string();
        assert!(message((2, 3), &["a", "b"]).contains("[2, 3]"));
        assert!(message((0, 0), &[]).contains("0 class names"));
    }

    #[test]
    fn a_class_without_images() {
        let figure = confusion_matrix("None", &Array2::zeros((2, 2)), &["a", "b"]).unwrap();
        assert_eq!(figure.alt(), "None. Confusion matrix of 0 images.");
    }
}
