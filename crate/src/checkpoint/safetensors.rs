//! Safetensors files with their text metadata, through the safetensors crate.
//!
//! Layout: the header's length (8 bytes, little-endian), the header (JSON), the tensors one after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, View};
use tch::Tensor;

use super::tensor::{self, ELEMENT_TYPES};
use super::{StateDict, about, about_tensor, open};
use crate::error::ensure;
use crate::{Error, Result, file};

/// Largest header in bytes: about 10,000 tensors. Parsing takes many times a header's size.
const MAX_HEADER: u64 = 1 << 20;

/// Writes a safetensors file with text metadata (its `__metadata__`).
///
/// The file sorts the tensors by type and name.
///
/// # Errors
/// Fails if the folder can't be written or if a tensor has a type that [`super::read`] doesn't list.
pub fn write_safetensors(path: impl AsRef<Path>, dict: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let path = path.as_ref();
    let tensors = dict.0.iter().map(|(name, tensor)| {
        let (_, dtype) = tensor::written_type(name, tensor)?;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok((name, WrittenTensor { dtype, shape, tensor }))
    });
    let tensors = tensors.collect::<Result<Vec<_>>>().map_err(about(path))?;
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    file::replace(path, |file| file.write_all(&safetensors::serialize(tensors, metadata).map_err(io::Error::other)?))?;
    Ok(())
}

/// Reads a safetensors file and its text metadata.
///
/// ```
/// use std::collections::BTreeMap;
/// use vitlab::{checkpoint::{StateDict, read_safetensors, write_safetensors}, tch::Tensor};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("checkpoint.safetensors");
/// let dict = StateDict(vec![("weight".to_string(), Tensor::from_slice(&[1_i64, 2, 3]))]);
/// let metadata = BTreeMap::from([("epoch".to_string(), "7".to_string())]);
/// write_safetensors(&path, &dict, &metadata)?;
/// let (again, read) = read_safetensors(&path)?;
/// assert_eq!((again.get("weight"), read), (dict.get("weight"), metadata));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Fails if the file can't be read, is damaged or isn't a safetensors file.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    let path = path.as_ref();
    let (mut file, len) = open(path)?;
    parse(&mut file, len).map_err(about(path))
}

/// The tensors and text metadata of a file of `len` bytes. An error is a phrase for the user.
pub(super) fn parse(file: &mut File, len: u64) -> Result<(StateDict, BTreeMap<String, String>)> {
    const NEITHER: &str =
        "is neither a PyTorch state dict nor a safetensors file, or it is damaged; save or copy it again";
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| Error::argument(NEITHER))?;
    let header_len = u64::from_le_bytes(start);
    let found = (len - 8).checked_sub(header_len).ok_or_else(|| Error::argument(NEITHER))?;
    ensure!(
        header_len <= MAX_HEADER,
        "has a header of {header_len} bytes, more than a model of this kind needs ({MAX_HEADER})"
    );
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header).map_err(damaged)?;
    ensure!(header.starts_with(b"{"), "{NEITHER}");
    let metadata: Metadata = serde_json::from_slice(&header).map_err(damaged)?;
    let expected = metadata.data_len() as u64;
    ensure!(
        expected == found,
        "is truncated or damaged: its header announces {expected} bytes of tensors, {found} are there; copy or save it again"
    );
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let tensor = metadata.info(&name).ok_or_else(|| Error::argument("isn't in its header"));
        let tensor = tensor.and_then(|info| next_tensor(file, info)).map_err(about_tensor(&name))?;
        tensors.push((name, tensor));
    }
    let text = metadata.metadata().clone().unwrap_or_default();
    Ok((StateDict::checked(tensors)?, text.into_iter().collect()))
}

/// Reads the tensor at the file's position.
fn next_tensor(file: &mut File, info: &TensorInfo) -> Result<Tensor> {
    let Some(&(kind, ..)) = ELEMENT_TYPES.iter().find(|entry| entry.2 == info.dtype) else {
        return Err(Error::argument(format!("is of type {:?}; in Python, convert it to float32", info.dtype)));
    };
    let shape = info.shape.iter().map(|&size| i64::try_from(size)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Error::argument("has an impossible shape; copy or save the file again"))?;
    let (start, end) = info.data_offsets;
    let mut bytes = vec![0; end - start];
    file.read_exact(&mut bytes).map_err(|error| Error::argument(format!("can't be read: {error}")))?;
    tensor::from_bytes(&bytes, &shape, kind)
}

/// A tensor in the form that the safetensors crate writes. Its bytes are copied when they are written.
struct WrittenTensor<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: &'a Tensor,
}

impl View for WrittenTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        tensor::to_bytes(self.tensor).expect("a tensor of a supported type").into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

fn damaged(cause: impl Display) -> Error {
    Error::argument(format!("is a damaged safetensors file ({cause}); copy or save it again"))
}
