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
    let learner = arguments.inference.learner()?;
    if arguments.attention {
        learner.network().prefix_tokens()?; // a CNN has no attention
        if arguments.inference.precision != Precision::Float32 {
            return Err(Error::argument(
                "--attention comes from the model's own forward pass, which is float32; leave --precision out",
            ));
        }
    }
    let selected = arguments.selection.read(arguments.inference.device()?)?;
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
    let attention = if arguments.attention { tensors.pop() } else { None };
    let mut named = match <[Tensor; 2]>::try_from(tensors) {
        Ok([class, dist]) => {
            vec![("logits", (&class + &dist) / 2.0), ("logits_class", class), ("logits_dist", dist)]
        }
        Err(heads) => heads.into_iter().map(|logits| ("logits", logits)).collect(),
    };
    named.extend(attention.map(|attention| ("attention", attention)));
    let named = named.into_iter().map(|(name, tensor)| (name.to_string(), tensor));
    checkpoint::write(&arguments.out, &StateDict(named.collect()))?;
    println!("scores of {count} images ({}) written to {}", selected.source, arguments.out.display());
    Ok(())
}
