//! Confusion matrix.

use ndarray::Array2;

use super::canvas::{Canvas, MARGIN, WIDTH};
use super::text::{Anchor, LABEL, LEADING, SMALL, Style, style, wrap};
use super::{Color, Figure, Map, Scale};
use crate::{Error, Result};

const NAMES: f32 = 96.0;
const CELL_HEIGHT: f32 = 34.0;
/// The column of each class's share of right answers.
const RECALL: f32 = 66.0;
const MOST_CLASSES: usize = 12;

/// Counts [true class, predicted class] as numbers, coloured by their share of the row; at the right, the share of
/// each class that was recognised.
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
    let n = class_names.len();
    if counts.dim() != (n, n) || n == 0 || n > MOST_CLASSES {
        return Err(Error::argument(format!(
            "a confusion matrix of shape {:?} doesn't fit {n} class names; give one row and one column per class, at most {MOST_CLASSES}",
            counts.shape()
        )));
    }
    let left = MARGIN + NAMES;
    let cell = ((WIDTH - MARGIN - RECALL - left) / n as f32)
        .min(90.0)
        .floor();
    let names: Vec<Vec<String>> = class_names
        .iter()
        .map(|name| wrap(name, SMALL, false, cell - 2.0, 2))
        .collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or(0);
    let header = 30.0 + lines as f32 * SMALL * LEADING;
    let (mut canvas, top) = Canvas::page(title, header + CELL_HEIGHT * n as f32 + 24.0);
    let first = top + header;
    let right = left + cell * n as f32;
    let soft = |anchor| style(LABEL, Color::SOFT, anchor);
    canvas.text(left, top + 9.0, "Predicted class", soft(Anchor::Left));
    canvas.text(MARGIN, top + 9.0, "True class", soft(Anchor::Left));
    canvas.text(right + RECALL, top + 9.0, "Recognised", soft(Anchor::Right));

    let shares = Scale {
        map: Map::Blues,
        low: 0.0,
        high: 1.15,
    }; // the darkest blue is too dark for calm
    for (i, name) in class_names.iter().enumerate() {
        let x = left + cell * (i as f32 + 0.5);
        let above = first - 6.0 - names[i].len() as f32 * SMALL * LEADING;
        canvas.lines(
            x,
            above,
            &names[i],
            style(SMALL, Color::INK, Anchor::Middle),
        );

        let y = first + CELL_HEIGHT * i as f32;
        let middle = y + CELL_HEIGHT / 2.0;
        let lines = wrap(name, SMALL, false, NAMES - 8.0, 1);
        canvas.lines(
            left - 8.0,
            middle - SMALL * LEADING / 2.0,
            &lines,
            style(SMALL, Color::INK, Anchor::Right),
        );
        let total: u64 = counts.row(i).sum();
        for (j, &count) in counts.row(i).iter().enumerate() {
            let share = count as f32 / total.max(1) as f32;
            let background = shares.color(share);
            let color = if count == 0 {
                Color::AXIS
            } else {
                background.text_on()
            };
            let x = left + cell * j as f32;
            canvas.rect(x + 0.5, y + 0.5, cell - 1.0, CELL_HEIGHT - 1.0, background);
            let number = Style {
                bold: i == j,
                ..style(SMALL, color, Anchor::Middle)
            };
            canvas.text(x + cell / 2.0, middle, &count.to_string(), number);
        }
        let recognised = if total == 0 {
            "–".into()
        } else {
            percent(counts[[i, i]], total)
        };
        canvas.text(
            right + RECALL,
            middle,
            &recognised,
            style(SMALL, Color::INK, Anchor::Right),
        );
    }
    let note = "Numbers are images; the colour is their share of the row.";
    canvas.text(
        left,
        first + CELL_HEIGHT * n as f32 + 16.0,
        note,
        style(SMALL, Color::SOFT, Anchor::Left),
    );
    Figure::new(canvas, alt(title, counts, class_names))
}

fn percent(part: u64, total: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / total as f64)
}

fn alt(title: &str, counts: &Array2<u64>, class_names: &[&str]) -> String {
    let total = counts.sum();
    let mut text = format!(
        "{}. Confusion matrix of {total} images",
        title.trim_end_matches('.')
    );
    if total > 0 {
        text += &format!(": {} right", percent(counts.diag().sum(), total));
    }
    let wrong = counts
        .indexed_iter()
        .filter(|((i, j), count)| i != j && **count > 0);
    if let Some(((i, j), count)) = wrong.max_by_key(|(_, count)| **count) {
        text += &format!(
            ". Most frequent confusion: {count} × {} taken for {}",
            class_names[i], class_names[j]
        );
    }
    text + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let message = |shape, names: &[&str]| {
            confusion_matrix("", &Array2::zeros(shape), names)
                .unwrap_err()
                .to_string()
        };
        assert!(message((2, 3), &["a", "b"]).contains("[2, 3]"));
        assert!(message((0, 0), &[]).contains("0 class names"));
    }

    #[test]
    fn a_class_without_images() {
        let figure = confusion_matrix("None", &Array2::zeros((2, 2)), &["a", "b"]).unwrap();
        assert_eq!(figure.alt(), "None. Confusion matrix of 0 images.");
    }
}
