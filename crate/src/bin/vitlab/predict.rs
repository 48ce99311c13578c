//! `vitlab predict`.

use std::path::PathBuf;

use tch::{Device, Tensor, no_grad};
use vitlab::checkpoint::{self, StateDict};
use vitlab::config::Precision;
use vitlab::data::normalise;
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
    let bar = progress(selected.len());
    let (mut heads, mut attention): (Vec<Vec<Tensor>>, Vec<Tensor>) = Default::default();
    for bytes in selected.images.split(BATCH, 0) {
        let batch = normalise(&bytes);
        let scores = if arguments.attention {
            let (scores, layers) = no_grad(|| learner.network().forward(&batch, false))?;
            attention.push(Tensor::stack(&layers, 1).to_device(Device::Cpu)); // L × [B, H, S, S] -> [B, L, H, S, S]
            scores
        } else {
            learner.heads(&batch)?
        };
        heads.resize_with(scores.len(), Vec::new);
        heads.iter_mut().zip(scores).for_each(|(all, scores)| all.push(scores.to_device(Device::Cpu)));
        bar.inc(bytes.size()[0] as u64);
    }
    bar.finish_and_clear();
    let heads: Vec<Tensor> = heads.iter().map(|batches| Tensor::cat(batches, 0)).collect();
    let mut named = match <[Tensor; 2]>::try_from(heads) {
        Ok([class, dist]) => {
            vec![("logits", (&class + &dist) / 2.0), ("logits_class", class), ("logits_dist", dist)]
        }
        Err(heads) => heads.into_iter().map(|logits| ("logits", logits)).collect(),
    };
    if arguments.attention {
        named.push(("attention", Tensor::cat(&attention, 0)));
    }
    let named = named.into_iter().map(|(name, tensor)| (name.to_string(), tensor));
    checkpoint::write(&arguments.out, &StateDict(named.collect()))?;
    println!("scores of {} images ({}) written to {}", selected.len(), selected.source, arguments.out.display());
    Ok(())
}
