//! `vitlab convert`.

use std::path::PathBuf;

use vitlab::Result;
use vitlab::checkpoint::Checkpoint;

/// Copy a checkpoint into a PyTorch file (.pt) or a safetensors file, with the description of its model.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint file of PyTorch, safetensors or NumPy, an index of shards, a folder, or hf://OWNER/NAME.
    from: PathBuf,
    /// The file to write, whose extension decides: .safetensors, .pt or .pth. The description of the model goes into the
    /// metadata of the former, and into a .json file beside the latter.
    to: PathBuf,
    /// The dictionary of tensors to take, in a file that holds several: "teacher" or "ema.module".
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let checkpoint = Checkpoint::open_unchanged(&arguments.from, arguments.entry.as_deref())?;
    checkpoint.write(&arguments.to)?;
    println!("{} tensors written to {}", checkpoint.tensors.0.len(), arguments.to.display());
    Ok(())
}
