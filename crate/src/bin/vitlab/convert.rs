//! `vitlab convert`.

use std::path::PathBuf;

use vitlab::{Result, weights};

/// Copy a weight file into the other format: .pt (PyTorch state dict) and .safetensors.
#[derive(clap::Args)]
pub struct Arguments {
    from: PathBuf,
    to: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let dict = weights::read(&arguments.from)?;
    weights::write(&arguments.to, &dict)?;
    println!("{} tensors written to {}", dict.0.len(), arguments.to.display());
    Ok(())
}
