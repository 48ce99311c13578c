//! A ViT from the image to the logits, and one of its blocks.

use ndarray::Array2;

use super::tokens::{self, COLUMN, SIDE, STACK};
use super::{Parameters, colors, thousands};
use crate::plot::canvas::{Canvas, MARGIN, WIDTH};
use crate::plot::diagram::PLUS;
use crate::plot::text::{Anchor, LABEL, SMALL, Style, style};
use crate::plot::{Color, Figure};
use crate::{Config, Result};

/// Heights of the upper part, and of the panel with one block.
const UPPER: f32 = 186.0;
const PANEL: f32 = 196.0;

/// A ViT of this configuration: an image becomes patches, these become tokens, the blocks mix them, and the classifier reads
/// the class token. Below, one block with its two residual connections. `image` is an example, `[I, I]`.
///
/// ```
/// use vitlab::{Config, plot::vit_architecture};
/// let figure = vit_architecture(&Config::default(), &ndarray::Array2::zeros([28, 28]))?;
/// assert!(figure.alt().starts_with("Vision Transformer with 210,122 parameters. An image of 28 × 28 pixels is cut into 49"));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// An impossible configuration, or an image of another size.
pub fn vit_architecture(config: &Config, image: &Array2<f32>) -> Result<Figure> {
    tokens::check(config, image)?;
    let parameters = Parameters::of(config);
    let title = format!("Vision Transformer with {} parameters", thousands(parameters.vit));
    let (mut canvas, top) = Canvas::page(&title, UPPER + PANEL);
    overview(&mut canvas, top, config, image);
    block(&mut canvas, top + UPPER, config, &parameters);
    Figure::new(canvas, alt(&title, config, &parameters))
}

fn overview(canvas: &mut Canvas, top: f32, config: &Config, image: &Array2<f32>) {
    let Config { image_size: side, patch_size: patch, embed_dim: width, n_classes: classes, .. } = *config;
    let (patches, middle) = (config.n_patches(), top + 72.0);
    let below = top + 138.0;

    let (left, corner) = (MARGIN + 4.0, middle - SIDE / 2.0);
    tokens::image(canvas, (left, corner), image);
    canvas.note(left + SIDE / 2.0, below, &["image", &format!("{side} × {side} pixels")]);

    let cut = left + SIDE + 24.0;
    canvas.arrow(&[(left + SIDE + 4.0, middle), (cut - 3.0, middle)], colors::ARROW);
    tokens::patches(canvas, (cut, corner), config, image);
    canvas.note(cut + SIDE / 2.0, below, &[&format!("{patches} patches"), &format!("{patch} × {patch} pixels each")]);

    let numbers = config.n_channels * patch * patch;
    let linear = (cut + SIDE + 20.0, middle - 24.0, 62.0, 48.0);
    canvas.arrow(&[(cut + SIDE + 1.0, middle), (linear.0 - 2.0, middle)], colors::ARROW);
    canvas.node(linear, colors::PATCH, &["linear", &format!("{numbers} → {width}")]);

    let column = linear.0 + linear.2 + 20.0;
    canvas.arrow(&[(linear.0 + linear.2 + 2.0, middle), (column - 3.0, middle)], colors::ARROW);
    tokens::column(canvas, (column, middle - 57.0), config, &[("class", colors::CLASS)]);
    let lines = [format!("{} tokens, {width} numbers", patches + 1), "each plus its position".to_string()];
    canvas.note(column + COLUMN / 2.0, below, &[&lines[0], &lines[1]]);

    let stack = column + COLUMN + 22.0;
    canvas.arrow(&[(column + COLUMN + 4.0, middle), (stack - 3.0, middle)], colors::ARROW);
    let right = tokens::blocks(canvas, (stack, middle), config);
    canvas.note(stack + STACK / 2.0 + 4.0, below, &["one of them", "is drawn below"]);

    let norm = (right + 18.0, middle - 16.0, 44.0, 32.0);
    canvas.arrow(&[(right + 2.0, middle), (norm.0 - 3.0, middle)], colors::ARROW);
    canvas.node(norm, colors::LAYER, &["norm"]);
    let head = (norm.0 + norm.2 + 18.0, middle - 24.0, 96.0, 48.0);
    canvas.arrow(&[(norm.0 + norm.2 + 2.0, middle), (head.0 - 3.0, middle)], colors::ARROW);
    canvas.node(head, colors::CLASS, &["classifier", &format!("{width} → {width} → {classes}")]);
    canvas.note(head.0 + head.2 / 2.0, below, &["reads the class", "token alone"]);
    let end = head.0 + head.2 + 18.0;
    canvas.arrow(&[(head.0 + head.2 + 2.0, middle), (end, middle)], colors::ARROW);
    canvas.centred((end + WIDTH - MARGIN) / 2.0, middle, &[&classes.to_string(), "logits"]);
}

/// The panel with one block: norm, attention, addition, norm, MLP, addition.
fn block(canvas: &mut Canvas, top: f32, config: &Config, parameters: &Parameters) {
    let Config { embed_dim: width, n_attention_heads: heads, forward_mul, .. } = *config;
    let (tokens, hidden) = (config.n_patches() + 1, width * forward_mul);
    let panel = (MARGIN, top, WIDTH - 2.0 * MARGIN, PANEL - 4.0);
    canvas.rect(panel.0, panel.1, panel.2, panel.3, Color::GRID_LINE.under(Color::WHITE, 0.6));
    canvas.frame(panel, 0.75, Color::GRID_LINE);
    let heading = Style { bold: true, ..style(LABEL, Color::TEXT, Anchor::Left) };
    let all = thousands(parameters.attention + parameters.mlp + parameters.norms);
    canvas.text(panel.0 + 10.0, top + 15.0, &format!("One block, {all} parameters"), heading);

    let middle = top + 116.0;
    let norm = |x: f32| (x, middle - 16.0, 44.0, 32.0);
    let (start, first) = (panel.0 + 70.0, norm(panel.0 + 92.0));
    let attention = (first.0 + first.2 + 26.0, middle - 44.0, 200.0, 88.0);
    let add = attention.0 + attention.2 + 26.0 + PLUS;
    let second = norm(add + PLUS + 46.0);
    let mlp = (second.0 + second.2 + 26.0, middle - 44.0, 144.0, 88.0);
    let last = mlp.0 + mlp.2 + 26.0 + PLUS;
    let end = panel.0 + panel.2 - 68.0;

    canvas.centred(panel.0 + 34.0, middle, &["tokens", &format!("{tokens} × {width}")]);
    canvas.arrow(&[(start - 2.0, middle), (first.0 - 3.0, middle)], colors::ARROW);
    canvas.node(first, colors::LAYER, &["norm"]);
    canvas.arrow(&[(first.0 + first.2 + 2.0, middle), (attention.0 - 3.0, middle)], colors::ARROW);
    let lines = [
        "self-attention".to_string(),
        format!("{heads} {} of width {}", if heads == 1 { "head" } else { "heads" }, width / heads),
        "softmax(queries · keys / √width)".to_string(),
        format!("= {tokens} × {tokens} weights per head,"),
        "averaging the values; linear".to_string(),
    ];
    canvas.node(attention, colors::POSITION, &lines.each_ref().map(String::as_str));
    canvas.arrow(&[(attention.0 + attention.2 + 2.0, middle), (add - PLUS - 2.0, middle)], colors::ARROW);
    canvas.arrow(&[(add + PLUS + 1.0, middle), (second.0 - 3.0, middle)], colors::ARROW);
    canvas.node(second, colors::LAYER, &["norm"]);
    canvas.arrow(&[(second.0 + second.2 + 2.0, middle), (mlp.0 - 3.0, middle)], colors::ARROW);
    let lines = [format!("linear {width} → {hidden}"), format!("linear {hidden} → {width}")];
    canvas.node(mlp, colors::POSITION, &["MLP", &lines[0], "GELU", &lines[1], "each token by itself"]);
    canvas.arrow(&[(mlp.0 + mlp.2 + 2.0, middle), (last - PLUS - 2.0, middle)], colors::ARROW);
    canvas.arrow(&[(last + PLUS + 1.0, middle), (end - 1.0, middle)], colors::ARROW);
    canvas.centred(end + 34.0, middle, &["tokens", &format!("{tokens} × {width}")]);

    for (from, to) in [(start + 8.0, add), (add + PLUS + 18.0, last)] {
        canvas.arrow(
            &[(from, middle), (from, top + 48.0), (to, top + 48.0), (to, middle - PLUS - 1.0)],
            colors::RESIDUAL,
        );
        canvas.plus((to, middle), colors::ARROW);
        let label = style(SMALL, Color::AXIS_TEXT, Anchor::Middle);
        canvas.text((from + to) / 2.0, top + 38.0, "residual: added unchanged", label);
    }
    canvas.note(
        attention.0 + attention.2 / 2.0,
        middle + 48.0,
        &[&format!("{} parameters", thousands(parameters.attention))],
    );
    canvas.note(mlp.0 + mlp.2 / 2.0, middle + 48.0, &[&format!("{} parameters", thousands(parameters.mlp))]);
}

fn alt(title: &str, config: &Config, parameters: &Parameters) -> String {
    let Config { image_size: side, patch_size: patch, embed_dim: width, n_layers: layers, n_classes: classes, .. } =
        *config;
    let (patches, heads, hidden) = (config.n_patches(), config.n_attention_heads, width * config.forward_mul);
    format!(
        "{title}. An image of {side} × {side} pixels is cut into {patches} patches of {patch} × {patch} pixels. A linear map \
         makes a token of {width} numbers of each. With the class token there are {} tokens, and each gets its position \
         added. {layers} blocks follow, a norm, and the classifier, which gives {classes} logits from the class token alone. \
         One block, {} parameters: norm, self-attention with {heads} heads of width {} ({} parameters), the input added as a \
         residual; norm, MLP from {width} to {hidden} to {width} numbers ({} parameters), its input added as a residual.",
        patches + 1,
        thousands(parameters.attention + parameters.mlp + parameters.norms),
        width / heads,
        thousands(parameters.attention),
        thousands(parameters.mlp),
    )
}
