//! Safetensors files, through the crate of that name, with their text metadata.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::Metadata;
use safetensors::{Dtype, View};
use tch::{Kind, Tensor};

use super::machine::short;
use super::{StateDict, open, tensor};
use crate::{Error, Result, file};

/// Room for some ten thousand tensors. Parsing a header takes many times its own size.
const MAX_HEADER: u64 = 1 << 20;

/// Writes a safetensors file with text metadata (its `__metadata__`).
///
/// The file keeps the tensors by type and name, not in their order here.
///
/// # Errors
/// A folder that can't be written, a tensor of a type that [`super::read`] doesn't name.
pub fn write_safetensors(path: impl AsRef<Path>, dict: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    Ok(file::replace(path.as_ref(), |file| {
        let tensors = dict
            .0
            .iter()
            .map(|(name, tensor)| Ok((name, Dense::new(name, tensor)?)))
            .collect::<Result<Vec<_>, String>>()
            .map_err(io::Error::other)?;
        let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
        let bytes = safetensors::serialize(tensors, metadata).map_err(io::Error::other)?;
        file.write_all(&bytes)
    })?)
}

/// Reads a safetensors file and its text metadata.
///
/// ```
/// # fn main() -> vitlab::Result<()> {
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use vitlab::checkpoint::{StateDict, read_safetensors, write_safetensors};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("checkpoint.safetensors");
/// let dict = StateDict(vec![("weight".to_string(), Tensor::from_slice(&[1_i64, 2, 3]))]);
/// let metadata = BTreeMap::from([("epoch".to_string(), "7".to_string())]);
/// write_safetensors(&path, &dict, &metadata)?;
/// let (again, read) = read_safetensors(&path)?;
/// assert_eq!((again.get("weight"), read), (dict.get("weight"), metadata));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A file that can't be read, is damaged or isn't a safetensors file.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    let path = path.as_ref();
    let (mut file, len) = open(path)?;
    parse(&mut file, len).map_err(|problem| Error::file(path, problem))
}

/// Header length (8 bytes), header (JSON), tensors one after the other.
fn parse(file: &mut File, len: u64) -> Result<(StateDict, BTreeMap<String, String>), String> {
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| neither())?;
    let header_len = u64::from_le_bytes(start);
    if header_len > len - 8 {
        return Err(neither());
    }
    if header_len > MAX_HEADER {
        return Err(format!("has a header of {header_len} bytes, more than a model of this kind needs ({MAX_HEADER})"));
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header).map_err(damaged)?;
    if header.first() != Some(&b'{') {
        return Err(neither());
    }
    let metadata: Metadata = serde_json::from_slice(&header).map_err(damaged)?;
    let expected = metadata.data_len() as u64;
    if expected != len - 8 - header_len {
        return Err(format!(
            "is truncated or damaged: its header announces {expected} bytes of tensors, {} are there; copy or \
             save it again",
            len - 8 - header_len
        ));
    }
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let tensor =
            next_tensor(file, &metadata, &name).map_err(|problem| format!("its tensor {} {problem}", short(&name)))?;
        tensors.push((name, tensor));
    }
    let text = metadata.metadata().iter().flatten();
    let text = text.map(|(key, value)| (key.clone(), value.clone()));
    Ok((StateDict::checked(tensors)?, text.collect()))
}

fn next_tensor(file: &mut File, metadata: &Metadata, name: &str) -> Result<Tensor, String> {
    let info = metadata.info(name).ok_or("isn't in its header")?;
    let kind =
        kind(info.dtype).ok_or_else(|| format!("is of type {:?}; in Python, convert it to float32", info.dtype))?;
    let shape = info
        .shape
        .iter()
        .map(|&size| i64::try_from(size).map_err(|_| "has an impossible shape".to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let (start, end) = info.data_offsets;
    let mut bytes = vec![0; end - start];
    file.read_exact(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    tensor::from_bytes(&bytes, &shape, kind)
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// A tensor as the safetensors crate wants to see it.
struct Dense<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: &'a Tensor,
}

impl<'a> Dense<'a> {
    fn new(name: &str, tensor: &'a Tensor) -> Result<Self, String> {
        let wanted = tensor.f_kind().map_err(tensor::sentence)?;
        let known = [
            Dtype::F64,
            Dtype::F32,
            Dtype::F16,
            Dtype::BF16,
            Dtype::I64,
            Dtype::I32,
            Dtype::I16,
            Dtype::I8,
            Dtype::U8,
            Dtype::BOOL,
        ];
        let dtype = known
            .into_iter()
            .find(|&dtype| kind(dtype) == Some(wanted))
            .ok_or_else(|| format!("{name} is of type {wanted:?}; convert it to float32 first"))?;
        Ok(Dense { dtype, shape: tensor.size().iter().map(|&size| size as usize).collect(), tensor })
    }
}

impl View for Dense<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        tensor::to_bytes(self.tensor).expect("a tensor of a known type").into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

fn neither() -> String {
    "is neither a PyTorch state dict nor a safetensors file, or it is damaged; save or copy it again".to_string()
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("is a damaged safetensors file ({error}); copy or save it again")
}
