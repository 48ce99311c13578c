//! `vitlab predict`.

use std::path::PathBuf;

use tch::{Device, Tensor, no_grad};
use vitlab::data::normalise;
use vitlab::device::device;
use vitlab::model::Model;
use vitlab::weights::{self, StateDict};
use vitlab::{Error, Result};

use crate::images::{self, Selection};
use crate::kind::Network;

/// Images per batch; the scores don't depend on it.
const BATCH: i64 = 250;

/// Write the scores of images, and on request the attention, as tensors.
///
/// `logits` [N, 10]; of a DeiT also `logits_class` and `logits_dist`, whose mean `logits` is; `attention` [N, L, H, S, S].
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// The attention of all layers and heads too: 240 kB per image.
    #[arg(long)]
    attention: bool,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.out.extension().is_none_or(|e| e != "safetensors") {
        return Err(Error::file(
            &arguments.out,
            "--out must end in .safetensors",
        ));
    }
    let device = device(&arguments.device)?;
    let network = Network::read(&arguments.weights, device)?;
    if arguments.attention {
        network.prefix_tokens()?; // a CNN has no attention
    }
    let selected = arguments.selection.read(device)?;
    let count = selected.len();
    let bar = images::progress(count);
    let mut parts: Vec<(&str, Vec<Tensor>)> = Vec::new();
    for start in (0..count).step_by(BATCH as usize) {
        let end = (start + BATCH).min(count);
        let batch = normalise(&selected.images.narrow(0, start, end - start));
        for (name, tensor) in no_grad(|| scores(&network, &batch, arguments.attention))? {
            let tensor = tensor.to_device(Device::Cpu);
            match parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, tensors)) => tensors.push(tensor),
                None => parts.push((name, vec![tensor])),
            }
        }
        bar.set_position(end as u64);
    }
    bar.finish_and_clear();
    let tensors = parts
        .into_iter()
        .map(|(name, parts)| (name.to_string(), Tensor::cat(&parts, 0)));
    weights::write(&arguments.out, &StateDict(tensors.collect()))?;
    println!(
        "scores of {count} images ({}) written to {}",
        selected.source,
        arguments.out.display()
    );
    Ok(())
}

fn scores(
    network: &Network,
    batch: &Tensor,
    attention: bool,
) -> Result<Vec<(&'static str, Tensor)>> {
    let mut named = Vec::new();
    let maps = match network {
        Network::Cnn(model) => {
            named.push(("logits", model.predict(batch)?));
            None
        }
        Network::Vit(model) => {
            let (logits, maps) = model.forward(batch, false, attention)?;
            named.push(("logits", logits));
            maps
        }
        Network::Deit(model) => {
            let (heads, maps) = model.forward(batch, false, attention)?;
            named.extend([
                ("logits", heads.average()),
                ("logits_class", heads.class),
                ("logits_dist", heads.dist),
            ]);
            maps
        }
    };
    named.extend(maps.map(|maps| ("attention", maps)));
    Ok(named)
}
