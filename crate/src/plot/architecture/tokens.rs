//! From the image to the tokens, which ViT and DeiT have in common.

use ndarray::Array2;

use super::colors;
use crate::error::ensure;
use crate::plot::canvas::Canvas;
use crate::plot::text::{Anchor, SMALL, style};
use crate::plot::{Color, Map, Scale};
use crate::{Config, Result};

/// Side of the image.
pub const SIDE: f32 = 78.0;
/// Height of a token and distance of two.
const TOKEN: f32 = 17.0;
const STEP: f32 = 20.0;
/// Widths of a token and of its position.
const WIDTH: f32 = 70.0;
const POSITION: f32 = 50.0;
/// Width of the stack of blocks, without the cards behind the first one.
pub const STACK: f32 = 72.0;

/// Checks that the image is one of the configuration's size.
pub fn check(config: &Config, image: &Array2<f32>) -> Result<()> {
    config.check()?;
    let (side, size) = (config.image_size as usize, image.dim());
    ensure!(size == (side, side), "the image is {} × {}, the configuration's are {side} × {side}", size.0, size.1);
    Ok(())
}

/// The image as it is, with its left top corner at (x, y).
pub fn image(canvas: &mut Canvas, (x, y): (f32, f32), image: &Array2<f32>) {
    let (scale, (rows, columns)) = (Scale::fit(Map::Grey, [image]), image.dim());
    canvas.cells((x, y, SIDE, SIDE), rows, columns, |row, column| scale.color(image[[row, column]]));
    canvas.frame((x, y, SIDE, SIDE), 1.0, Color::AXIS);
}

/// The image cut into its patches.
pub fn patches(canvas: &mut Canvas, (x, y): (f32, f32), config: &Config, image: &Array2<f32>) {
    let count = (config.image_size / config.patch_size) as usize;
    let (scale, patch) = (Scale::fit(Map::Grey, [image]), config.patch_size as usize);
    let step = SIDE / count as f32;
    let gap = (step * 0.2).min(3.0);
    for row in 0..count {
        for column in 0..count {
            let corner = (x + step * column as f32, y + step * row as f32, step - gap, step - gap);
            canvas.cells(corner, patch, patch, |i, j| scale.color(image[[row * patch + i, column * patch + j]]));
        }
    }
}

/// A column of tokens with their positions: the first ones by their names and colours, then patches. Returns the middle
/// of each of the first ones.
pub fn column(canvas: &mut Canvas, (x, y): (f32, f32), config: &Config, first: &[(&str, Color)]) -> Vec<f32> {
    let patches = config.n_patches();
    let shown = if patches <= 4 { patches } else { 3 };
    let mut tokens: Vec<(String, Color, i64)> =
        first.iter().zip(0..).map(|(&(name, color), i)| (name.to_string(), color, i)).collect();
    let prefix = tokens.len() as i64;
    tokens.extend((1..=shown).map(|i| (format!("patch {i}"), colors::PATCH, prefix + i - 1)));
    let mut top = y;
    let mut middles = Vec::new();
    for (name, color, place) in &tokens {
        middles.push(token(canvas, (x, top), name, *color, *place));
        top += STEP;
    }
    if patches > shown {
        for i in 0..3 {
            canvas.rect(x + WIDTH / 2.0 - 1.0, top + 1.0 + 5.0 * i as f32, 2.0, 2.0, colors::ARROW);
        }
        top += STEP - 3.0;
        let name = format!("patch {patches}");
        middles.push(token(canvas, (x, top), &name, colors::PATCH, prefix + patches - 1));
    }
    middles
}

/// A token and its position. Returns its vertical middle.
fn token(canvas: &mut Canvas, (x, y): (f32, f32), name: &str, color: Color, place: i64) -> f32 {
    let middle = y + TOKEN / 2.0;
    let text = style(SMALL, Color::TEXT, Anchor::Middle);
    let position = x + WIDTH + 14.0;
    for (x, width, color, name) in
        [(x, WIDTH, color, name), (position, POSITION, colors::POSITION, &format!("pos {place}"))]
    {
        let area = (x, y, width, TOKEN);
        canvas.rect(x, y, width, TOKEN, color.under(Color::WHITE, 0.65));
        canvas.frame(area, 0.75, color);
        canvas.text(x + width / 2.0, middle, name, text);
    }
    canvas.text(x + WIDTH + 7.0, middle, "+", text);
    middle
}

/// Width of the column.
pub const COLUMN: f32 = WIDTH + 14.0 + POSITION;

/// The blocks as a stack of cards with their left end at `x`. Returns the right end.
pub fn blocks(canvas: &mut Canvas, (x, middle): (f32, f32), config: &Config) -> f32 {
    let (y, height, behind) = (middle - 40.0, 80.0, (config.n_layers - 1).min(3));
    for card in (1..=behind).rev() {
        let shift = 5.0 * card as f32;
        canvas.node((x + shift, y - shift, STACK, height), colors::LAYER, &[]);
    }
    let counted = |count: i64, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let (blocks, heads) = (counted(config.n_layers, "block"), counted(config.n_attention_heads, "head"));
    canvas.node((x, y, STACK, height), colors::LAYER, &[&blocks, &heads, "each"]);
    x + STACK + 5.0 * behind as f32
}
