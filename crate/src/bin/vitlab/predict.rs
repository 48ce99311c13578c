//! `vitlab predict`.

use std::path::PathBuf;

use tch::Tensor;
use vitlab::checkpoint::{self, StateDict};
use vitlab::config::Precision;
use vitlab::metrics::in_batches;
use vitlab::{Error, Result};

use crate::options::{Inference, Selection, progress};

/// Images per batch; the scores don't depend on it.
const BATCH: i64 = 250;

/// Write the scores of images, and on request the attention, as tensors.
///
/// `logits` [N, 10]; for a DeiT also `logits_class` and `logits_dist`, whose mean is `logits`; `attention` [N, L, H, S, S].
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    selection: Selection,
    /// Write the attention of all layers and heads too: 240 kB per image.
    #[arg(long)]
    attention: bool,
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.out.extension().is_none_or(|e| e != "safetensors") {
        return Err(Error::file(&arguments.out, "--out must end in .safetensors"));
    }
    let (learner, device) = arguments.inference.learner()?;
    if arguments.attention {
        learner.network().prefix_tokens()?; // a CNN has no attention
        if arguments.inference.precision != Precision::Float32 {
            let problem =
                "--attention comes from the model's own forward pass, which is float32; leave --precision out";
            return Err(Error::argument(problem));
        }
    }
    let selected = arguments.selection.read(device)?;
    let count = selected.images.size()[0];
    let bar = progress(count);
    let mut tensors = in_batches(&selected.images, BATCH, |images| {
        bar.inc(images.size()[0] as u64);
        if !arguments.attention {
            return learner.heads(images);
        }
        let (mut tensors, layers) = learner.network().forward(images, false)?;
        tensors.push(Tensor::stack(&layers, 1)); // L × [B, H, S, S] -> [B, L, H, S, S]
        Ok(tensors)
    })?;
    bar.finish_and_clear();
    let mut names = vec!["logits"];
    if tensors.len() - usize::from(arguments.attention) == 2 {
        tensors.insert(0, (&tensors[0] + &tensors[1]) / 2.0);
        names.extend(["logits_class", "logits_dist"]);
    }
    names.push("attention");
    let named = names.into_iter().map(String::from).zip(tensors).collect();
    checkpoint::write(&arguments.out, &StateDict(named))?;
    println!("scores of {count} images ({}) written to {}", selected.source, arguments.out.display());
    Ok(())
}
