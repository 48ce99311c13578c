//! `vitlab predict`.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use vitlab::checkpoint::{StateDict, write_safetensors};
use vitlab::config::Precision;
use vitlab::metrics::in_batches;
use vitlab::{Error, Learner, Result};

use crate::images::{Selected, Selection};
use crate::options::{Inference, extension, progress};

/// The most images per batch; the scores don't depend on it.
const BATCH: i64 = 250;

/// Print the class of each image with its probability, or write the scores and on request attention and tokens as tensors.
///
/// The file has `logits` [N, classes]; for a DeiT also `logits_class` and `logits_dist`, whose mean is `logits`; and
/// `attention` [N, L, H, S, S] and `tokens` [N, S, E], prefix tokens first, after the last norm.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    selection: Selection,
    /// Print the N most probable classes of each image.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1000))]
    top: i64,
    /// Write the attention of all layers and heads too: 240 kB per image of the homework's models, 22 MB of a ViT-B/16.
    #[arg(long, requires = "out")]
    attention: bool,
    /// Write the tokens of the last block too, as features of each patch: 390 kB per image of DINOv2-small at 224.
    #[arg(long, requires = "out")]
    tokens: bool,
    /// Write the scores to this file instead of printing them; those of pictures are printed as well.
    #[arg(long, value_name = "FILE.safetensors")]
    out: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  vitlab predict --weights models/ViT_model.pt --image dress.jpg photos/
  vitlab predict --weights hf://google/vit-base-patch16-224 --image cat.jpg --top 5
  vitlab predict --weights models/ViT_model.pt --range 0..100 --attention --out scores.safetensors
  vitlab predict --weights dinov2-small --image cat.jpg --tokens --out features.safetensors
  vitlab predict --weights model.safetensors --tensor images.safetensors --out scores.safetensors";

pub fn run(arguments: Arguments) -> Result<()> {
    if let Some(out) = arguments.out.as_ref().filter(|out| extension(out) != "safetensors") {
        return Err(Error::file(out, "--out must end in .safetensors"));
    }
    if (arguments.attention || arguments.tokens) && arguments.inference.precision != Precision::Float32 {
        let problem =
            "--attention and --tokens come from the model's own forward pass, which is float32; leave --precision out";
        return Err(Error::argument(problem));
    }
    let (learner, device) = arguments.inference.learner()?;
    if arguments.attention || arguments.tokens {
        learner.network().prefix_tokens()?; // a CNN has no attention
    }
    let selected = arguments.selection.read(&learner, device)?;
    let named = scores(&learner, &selected, arguments.attention, arguments.tokens)?;
    if arguments.out.is_none() || !selected.files.is_empty() {
        print(&learner, &selected, &named[0].1, arguments.top)?;
    }
    if let Some(out) = &arguments.out {
        write(out, &selected, named)?;
    }
    Ok(())
}

/// The logits, which come first, and the other tensors under their names.
fn scores(learner: &Learner, selected: &Selected, attention: bool, tokens: bool) -> Result<Vec<(String, Tensor)>> {
    let bar = progress(selected.images.size()[0]);
    let mut tensors = in_batches(&selected.images, BATCH.min(learner.batch_size()), |images| {
        bar.inc(images.size()[0] as u64);
        let images = learner.preprocessing().input(images)?;
        let mut tensors = if attention {
            let (mut tensors, layers) = learner.network().forward(&images, false)?;
            tensors.push(Tensor::stack(&layers, 1)); // L × [B, H, S, S] -> [B, L, H, S, S]
            tensors
        } else {
            learner.heads(&images)?
        };
        if tokens {
            tensors.push(learner.tokens(&images)?);
        }
        Ok(tensors)
    })?;
    bar.finish_and_clear();
    let others = [(attention, "attention"), (tokens, "tokens")].into_iter().filter(|(asked, _)| *asked);
    let others: Vec<&str> = others.map(|(_, name)| name).collect();
    let mut names = vec!["logits"];
    if tensors.len() - others.len() == 2 {
        tensors.insert(0, (&tensors[0] + &tensors[1]) / 2.0);
        names.extend(["logits_class", "logits_dist"]);
    }
    names.extend(others);
    Ok(names.into_iter().map(String::from).zip(tensors).collect())
}

/// Prints the most probable classes of each image, and its true class where it is known and another one.
fn print(learner: &Learner, selected: &Selected, logits: &Tensor, top: i64) -> Result<()> {
    let classes = learner.class_names();
    let (shares, indices) = logits.softmax(-1, Kind::Double).topk(top.min(classes.len() as i64), -1, true, true); // [N, classes] -> [N, top]
    if shares.isfinite().all().int64_value(&[]) == 0 {
        let problem = "the model's scores are not finite numbers: its weights are broken or don't fit its architecture";
        return Err(Error::argument(problem));
    }
    for (i, name) in selected.names.iter().enumerate() {
        let shares = Vec::<f64>::try_from(shares.get(i as i64))?;
        let indices = Vec::<i64>::try_from(indices.get(i as i64))?;
        let best = shares.iter().zip(&indices).map(|(share, &class)| (100.0 * share, &classes[class as usize]));
        if top == 1 {
            let label = selected.labels.as_ref().map(|labels| labels[i]).filter(|label| *label != indices[0]);
            let truth = label.map(|label| format!(" (is {})", classes[label as usize])).unwrap_or_default();
            best.for_each(|(percent, class)| println!("{name}: {class} {percent:.1} %{truth}"));
        } else {
            println!("{name}");
            best.for_each(|(percent, class)| println!("{percent:7.1} %  {class}"));
        }
    }
    Ok(())
}

fn write(out: &Path, selected: &Selected, tensors: Vec<(String, Tensor)>) -> Result<()> {
    write_safetensors(out, &StateDict(tensors), &Default::default())?;
    println!("scores of {} images ({}) written to {}", selected.names.len(), selected.source, out.display());
    Ok(())
}
