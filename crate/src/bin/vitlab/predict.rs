//! `vitlab predict`.

use std::path::PathBuf;

use tch::{Device, Tensor, no_grad};
use vitlab::checkpoint::{self, StateDict};
use vitlab::data::normalise;
use vitlab::{Error, Result};

use crate::images::{self, Selection};
use crate::kind::Network;
use crate::learner::{Inference, Learner};

/// Images per batch; the scores don't depend on it.
const BATCH: i64 = 250;

/// Write the scores of images, and on request the attention, as tensors.
///
/// `logits` [N, 10]; of a DeiT also `logits_class` and `logits_dist`, whose mean `logits` is; `attention` [N, L, H, S, S].
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    selection: Selection,
    /// The attention of all layers and heads too: 240 kB per image.
    #[arg(long)]
    attention: bool,
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.out.extension().is_none_or(|e| e != "safetensors") {
        return Err(Error::file(&arguments.out, "--out must end in .safetensors"));
    }
    let mut learner = arguments.inference.learner()?;
    if arguments.attention {
        learner.network.prefix_tokens()?; // a CNN has no attention
        if !arguments.inference.is_float32() {
            return Err(Error::argument(
                "--attention comes from the network's own forward pass, which is float32; leave --precision out",
            ));
        }
    }
    let selected = arguments.selection.read(arguments.inference.device()?)?;
    let count = selected.len();
    let bar = images::progress(count);
    let mut parts: Vec<(&str, Vec<Tensor>)> = Vec::new();
    for start in (0..count).step_by(BATCH as usize) {
        let end = (start + BATCH).min(count);
        let batch = normalise(&selected.images.narrow(0, start, end - start));
        for (name, tensor) in scores(&mut learner, &batch, arguments.attention)? {
            let tensor = tensor.to_device(Device::Cpu);
            match parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, tensors)) => tensors.push(tensor),
                None => parts.push((name, vec![tensor])),
            }
        }
        bar.set_position(end as u64);
    }
    bar.finish_and_clear();
    let tensors = parts.into_iter().map(|(name, parts)| (name.to_string(), Tensor::cat(&parts, 0)));
    checkpoint::write(&arguments.out, &StateDict(tensors.collect()))?;
    println!("scores of {count} images ({}) written to {}", selected.source, arguments.out.display());
    Ok(())
}

fn scores(learner: &mut Learner, batch: &Tensor, attention: bool) -> Result<Vec<(&'static str, Tensor)>> {
    let (mut heads, maps) = match &learner.network {
        Network::Vit(model) if attention => {
            let (logits, maps) = no_grad(|| model.forward(batch, false, true))?;
            (vec![logits], maps)
        }
        Network::Deit(model) if attention => {
            let (heads, maps) = no_grad(|| model.forward(batch, false, true))?;
            (vec![heads.class, heads.dist], maps)
        }
        _ => (learner.heads(batch)?, None),
    };
    let mut named = match heads.pop() {
        Some(dist) if !heads.is_empty() => {
            let class = heads.remove(0);
            vec![("logits", (&class + &dist) / 2.0), ("logits_class", class), ("logits_dist", dist)]
        }
        logits => vec![("logits", logits.expect("a network has a head"))],
    };
    named.extend(maps.map(|maps| ("attention", maps)));
    Ok(named)
}
