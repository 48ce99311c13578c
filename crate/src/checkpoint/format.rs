//! The format of a file, told by its first bytes and never by its name.

use super::pt::is_legacy;
use crate::{Error, Result};

/// Number of bytes from a file's start that tell its format.
pub(super) const START: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    /// PyTorch since version 1.6, or NumPy's .npz.
    Zip,
    /// PyTorch before version 1.6.
    LegacyPt,
    Safetensors,
    /// An index of shards, or another JSON file.
    Json,
}

impl Format {
    /// The format of a file with this start, its first [`START`] bytes. An error is a phrase with the remedy.
    pub fn of(start: &[u8]) -> Result<Self> {
        match start {
            [b'P', b'K', 3, 4, ..] => return Ok(Format::Zip),
            // The length of a header below 4 GiB, which may look like a signature, and the header's first byte.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return Ok(Format::Safetensors),
            _ if is_legacy(start) => return Ok(Format::LegacyPt),
            _ => {}
        }
        if let Some(problem) = unsupported(start) {
            return Err(Error::argument(problem));
        }
        let text = start.trim_ascii_start();
        // A header's length that begins with white space and a brace has no quote after the brace.
        let is_json = text.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""));
        Ok(if is_json { Format::Json } else { Format::Safetensors })
    }
}

/// Names the other kind of file that has this start, and the remedy.
fn unsupported(start: &[u8]) -> Option<String> {
    if start.starts_with(b"version https://git-lfs.github.com/spec/") {
        let text = String::from_utf8_lossy(start);
        let size = text.lines().find_map(|line| line.strip_prefix("size ")?.parse::<u64>().ok());
        let size = size.map_or(String::new(), |size| format!(" of {size} bytes"));
        return Some(format!(
            "is a Git LFS pointer in place of the file{size}; in its repository, run `git lfs install` and `git lfs pull`"
        ));
    }
    let text = start.trim_ascii_start();
    let begins = |words: &[u8]| text.get(..words.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(words));
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<?xml") {
        let advice = "download the file itself; on the Hugging Face hub, its link contains /resolve/ and not /blob/";
        return Some(format!("is a web page in place of the file; {advice}"));
    }
    let problem = match start {
        [] => "is empty; save or download it again",
        [0x80, 2..=5, ..] => {
            "is a Python pickle, not a PyTorch file; in Python, save just the weights: \
             torch.save(model.state_dict(), \"model.pt\")"
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            "is a single NumPy array; save all weights as an archive (numpy.savez), as a PyTorch state dict (.pt) or as \
             .safetensors"
        }
        [0x89, b'H', b'D', b'F', ..] => {
            "is an HDF5 file (Keras?); save the weights as a PyTorch state dict (.pt) or as .safetensors"
        }
        [0x1f, 0x8b, ..] => "is compressed with gzip; unpack it first",
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => {
            "is a picture, not a checkpoint; name a checkpoint file"
        }
        [b'G', b'G', b'U', b'F', ..] => "is a GGUF file; save the weights as .safetensors",
        _ if start.get(257..262) == Some(b"ustar") => "is a tar archive; unpack it, and name the checkpoint in it",
        _ => return None,
    };
    Some(problem.to_string())
}
