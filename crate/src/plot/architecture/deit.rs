//! The training of a DeiT: two tokens, two heads, a teacher and two losses.

use ndarray::Array2;

use super::tokens::{self, COLUMN, SIDE};
use super::{Parameters, colors, thousands};
use crate::config::Distillation;
use crate::plot::canvas::{Canvas, MARGIN, WIDTH};
use crate::plot::diagram::PLUS;
use crate::plot::text::{Anchor, SMALL, style};
use crate::plot::{Color, Figure};
use crate::{Config, Error, Result};

/// Middles of student and teacher, from the top.
const STUDENT: f32 = 104.0;
const TEACHER: f32 = 252.0;
/// Width of a head.
const HEAD: f32 = 88.0;
/// Height of the picture.
const HEIGHT: f32 = 312.0;

/// The training of a DeiT of this configuration (arXiv 2012.12877, section 4): class and distillation token, a head for each,
/// the teacher, which sees the same image, and the two losses of its DISTILLATION. `image` is an example, `[I, I]`.
///
/// ```
/// use vitlab::{Config, plot::deit_architecture};
/// let figure = deit_architecture(&Config::default(), &ndarray::Array2::zeros([28, 28]))?;
/// assert!(figure.alt().contains("cross-entropy (weight ½) of the class head with the label"));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// An impossible configuration, one whose DISTILLATION is neither hard nor soft, or an image of another size.
pub fn deit_architecture(config: &Config, image: &Array2<f32>) -> Result<Figure> {
    tokens::check(config, image)?;
    let losses = Losses::of(config)?;
    let parameters = thousands(Parameters::of(config).deit);
    let title = format!("DeiT with {parameters} parameters: training with a teacher ({} distillation)", losses.name);
    let (mut canvas, top) = Canvas::page(&title, HEIGHT);
    let heads = student(&mut canvas, top, config, image);
    let decision = teacher(&mut canvas, top, &losses);
    draw_losses(&mut canvas, heads, decision, &losses);
    Figure::new(canvas, alt(&title, config, &losses))
}

/// The texts of the two losses.
struct Losses {
    name: &'static str,
    /// Name of the teacher's output, and its formula from the logits.
    teaches: [String; 2],
    /// Loss of the class head, then of the distillation head: weight, then name.
    heads: [[String; 2]; 2],
}

impl Losses {
    fn of(config: &Config) -> Result<Self> {
        let (tau, lambda) = (config.tau, config.lambda);
        match config.distillation {
            Distillation::Hard => Ok(Losses {
                name: "hard",
                teaches: ["decision".into(), "largest logit".into()],
                heads: [["weight ½".into(), "cross-entropy".into()], ["weight ½".into(), "cross-entropy".into()]],
            }),
            Distillation::Soft => Ok(Losses {
                name: "soft",
                teaches: ["probabilities".into(), format!("softmax(logits / {tau})")],
                heads: [
                    [format!("1 − λ = {}", rounded(1.0 - lambda)), "cross-entropy".into()],
                    [format!("λ τ² = {}", rounded(lambda * tau * tau)), "KL divergence".into()],
                ],
            }),
            _ => Err(Error::argument(
                "the picture shows a teacher's decisions or probabilities; set DISTILLATION to hard or soft",
            )),
        }
    }
}

/// At most three decimals.
fn rounded(value: f64) -> String {
    ((value * 1000.0).round() / 1000.0).to_string()
}

/// The way of the image through the student. Returns the right end of the two heads and their middles.
fn student(canvas: &mut Canvas, top: f32, config: &Config, image: &Array2<f32>) -> (f32, [f32; 2]) {
    let Config { image_size: side, embed_dim: width, n_classes: classes, .. } = *config;
    let (patches, middle) = (config.n_patches(), top + STUDENT);
    let below = middle + 74.0;
    let (left, corner) = (MARGIN + 4.0, middle - SIDE / 2.0);
    tokens::image(canvas, (left, corner), image);
    canvas.note(left + SIDE / 2.0, corner - 20.0, &[&format!("image {side} × {side}")]);
    let cut = left + SIDE + 20.0;
    canvas.arrow(&[(left + SIDE + 4.0, middle), (cut - 3.0, middle)], colors::ARROW);
    tokens::patches(canvas, (cut, corner), config, image);
    canvas.note(cut + SIDE / 2.0, corner - 20.0, &[&format!("{patches} patches")]);

    let column = cut + SIDE + 20.0;
    canvas.arrow(&[(cut + SIDE + 1.0, middle), (column - 3.0, middle)], colors::ARROW);
    let first = [("class", colors::CLASS), ("distillation", colors::DISTILLATION)];
    tokens::column(canvas, (column, middle - 64.0), config, &first);
    canvas.note(column + COLUMN / 2.0, below, &[&format!("{} tokens, {width} numbers", patches + 2)]);

    let stack = column + COLUMN + 20.0;
    canvas.arrow(&[(column + COLUMN + 4.0, middle), (stack - 3.0, middle)], colors::ARROW);
    let right = tokens::blocks(canvas, (stack, middle), config);
    let norm = (right + 18.0, middle - 16.0, 44.0, 32.0);
    canvas.arrow(&[(right + 2.0, middle), (norm.0 - 3.0, middle)], colors::ARROW);
    canvas.node(norm, colors::LAYER, &["norm"]);

    let (out, start) = (norm.0 + norm.2, norm.0 + norm.2 + 24.0);
    let places = [middle - 44.0, middle + 44.0];
    let heads = [
        (["class", "head"], format!("{width} → {width} → {classes}"), colors::CLASS),
        (["distillation", "head"], format!("{width} → {classes}"), colors::DISTILLATION),
    ];
    for (y, ([name, head], sizes, color)) in places.into_iter().zip(heads) {
        canvas.arrow(&[(out + 2.0, middle), (out + 11.0, middle), (out + 11.0, y), (start - 3.0, y)], color);
        canvas.node((start, y - 27.0, HEAD, 54.0), color, &[name, head, &sizes]);
    }
    (start + HEAD, places)
}

/// The teacher below the student. Returns the right end of what it teaches, and its middle.
fn teacher(canvas: &mut Canvas, top: f32, losses: &Losses) -> (f32, f32) {
    let (middle, left) = (top + TEACHER, MARGIN + 4.0 + SIDE / 2.0);
    let network = (left + 70.0, middle - 34.0, 200.0, 68.0);
    canvas.arrow(&[(left, top + STUDENT + SIDE / 2.0 + 4.0), (left, middle), (network.0 - 3.0, middle)], colors::ARROW);
    canvas.node(
        network,
        colors::TEACHER,
        &["teacher (CNN)", "trained before, not changed here", "sees the same augmented image"],
    );
    let decision = (network.0 + network.2 + 60.0, middle - 22.0, 150.0, 44.0);
    canvas.arrow(&[(network.0 + network.2 + 2.0, middle), (decision.0 - 3.0, middle)], colors::ARROW);
    canvas.node(decision, colors::TEACHER, &[&losses.teaches[0], &losses.teaches[1]]);
    (decision.0 + decision.2, middle)
}

fn draw_losses(canvas: &mut Canvas, heads: (f32, [f32; 2]), decision: (f32, f32), losses: &Losses) {
    let (out, places) = heads;
    let left = out + 18.0;
    let center = (places[0] + places[1]) / 2.0;
    let width = 104.0;
    for ((y, color), [weight, name]) in places.into_iter().zip([colors::CLASS, colors::DISTILLATION]).zip(&losses.heads)
    {
        canvas.arrow(&[(out + 2.0, y), (left - 3.0, y)], color);
        canvas.node((left, y - 20.0, width, 40.0), colors::LAYER, &[name, weight]);
    }
    // The label comes from above, the teacher's answer from below.
    let target = left + width / 2.0;
    let text = style(SMALL, Color::TEXT, Anchor::Middle);
    canvas.text(target, places[0] - 46.0, "true label", text);
    canvas.arrow(&[(target, places[0] - 38.0), (target, places[0] - 22.0)], colors::ARROW);
    canvas.arrow(&[(decision.0 + 2.0, decision.1), (target, decision.1), (target, places[1] + 22.0)], colors::TEACHER);
    let sum = left + width + 22.0;
    for (y, side) in places.into_iter().zip([-1.0, 1.0]) {
        canvas.arrow(&[(left + width + 2.0, y), (sum, y), (sum, center + side * (PLUS + 1.0))], colors::ARROW);
    }
    canvas.plus((sum, center), colors::ARROW);
    canvas.text(sum + PLUS + 4.0, center, "loss", style(SMALL, Color::TEXT, Anchor::Left));
    let note = "prediction: mean of both heads' logits, without teacher";
    canvas.text(WIDTH - MARGIN, decision.1 + 44.0, note, style(SMALL, Color::AXIS_TEXT, Anchor::Right));
}

fn alt(title: &str, config: &Config, losses: &Losses) -> String {
    let Config { image_size: side, embed_dim: width, n_layers: layers, n_classes: classes, .. } = *config;
    let patches = config.n_patches();
    let [label, teacher] = losses.heads.each_ref().map(|[weight, name]| format!("{name} ({weight})"));
    let (taught, how) = (&losses.teaches[0], &losses.teaches[1]);
    format!(
        "{title}. Student: an image of {side} × {side} pixels becomes {patches} patches; with class and distillation token \
         there are {} tokens of {width} numbers. {layers} blocks and a norm follow, then a head on each of the two tokens, \
         {classes} logits each. Teacher: a CNN, trained before and not changed here, sees the same image; it gives its \
         {taught} ({how}). Loss: {label} of the class head with the label, plus {teacher} of the distillation head with the \
         teacher's {taught}. Prediction: the mean of both heads' logits.",
        patches + 2
    )
}
