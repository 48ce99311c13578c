//! `vitlab convert`.

use std::path::PathBuf;

use vitlab::{Result, checkpoint};

/// Copy a checkpoint file into the other format: .pt (PyTorch state dict) and .safetensors.
#[derive(clap::Args)]
pub struct Arguments {
    from: PathBuf,
    to: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let dict = checkpoint::read(&arguments.from)?;
    checkpoint::write(&arguments.to, &dict)?;
    println!("{} tensors written to {}", dict.0.len(), arguments.to.display());
    Ok(())
}
