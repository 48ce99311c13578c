//! NumPy's archives (.npz) of named arrays, in which Google publishes the weights of its Vision Transformers.
//!
//! A zip archive with an entry `NAME.npy` for each array: a magic number, a version, the header's length, the header (a
//! Python dictionary of type, order and shape), and the elements.
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use tch::{Kind, Tensor};

use super::archive::Archive;
use super::{Contents, StateDict, about_tensor, printable, tensor};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
const ENDING: &[u8] = b".npy";

/// Whether the archive's entries are arrays.
pub(super) fn is_npz(archive: &Archive) -> bool {
    archive.len() > 0 && archive.names().all(|name| name.ends_with(ENDING))
}

/// The arrays of an archive, in its order. An error is a phrase for the user.
pub(super) fn read(mut archive: Archive) -> Result<Contents> {
    let mut tensors = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.name(index).to_vec();
        let name = String::from_utf8_lossy(entry.strip_suffix(ENDING).unwrap_or(&entry)).into_owned();
        let bytes = archive.bytes(&entry)?.expect("an entry of the directory");
        let tensor = array(&bytes).map_err(about_tensor(&name))?;
        tensors.push((name, tensor));
    }
    Ok(Contents { tensors: StateDict::checked(tensors)?, ..Contents::default() })
}

/// An array from the content of its file.
fn array(bytes: &[u8]) -> Result<Tensor> {
    let damaged = || Error::argument("is no NumPy array or is damaged; copy or save the file again");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (len, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]) as usize, rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(damaged()),
    };
    let (header, elements) = rest.split_at_checked(len).ok_or_else(damaged)?;
    let header = std::str::from_utf8(header).ok().and_then(Header::parse).ok_or_else(damaged)?;
    let kind = kind(header.descr)?;
    if !header.fortran_order {
        return tensor::from_bytes(elements, &header.shape, kind);
    }
    // The first axis varies fastest: the reversed shape in row-major order.
    let reversed: Vec<i64> = header.shape.iter().rev().copied().collect();
    let axes: Vec<i64> = (0..reversed.len() as i64).rev().collect();
    Ok(tensor::from_bytes(elements, &reversed, kind)?.f_permute(axes)?)
}

/// The element type of NumPy's description.
fn kind(descr: &str) -> Result<Kind> {
    Ok(match descr {
        "<f8" => Kind::Double,
        "<f4" => Kind::Float,
        "<f2" => Kind::Half,
        // NumPy has no bfloat16: JAX's arrays of it become "void" of two bytes.
        "|V2" | "<V2" => Kind::BFloat16,
        "<i8" => Kind::Int64,
        "<i4" => Kind::Int,
        "<i2" => Kind::Int16,
        "|i1" => Kind::Int8,
        "|u1" => Kind::Uint8,
        "|b1" => Kind::Bool,
        other => {
            let advice = "in Python, save it as float32: array.astype(\"<f4\")";
            return Err(Error::argument(format!("is of NumPy's type {}; {advice}", printable(other))));
        }
    })
}

/// The header of an array, for instance `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }`.
struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<i64>,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, value) = rest.strip_prefix('\'')?.split_once("':")?;
            let value = value.trim_start();
            rest = match key {
                "descr" => {
                    let (found, rest) = value.strip_prefix('\'').map_or_else(
                        // The fields of a structured array, which `kind` refuses.
                        || value.split_once(']'),
                        |value| value.split_once('\''),
                    )?;
                    descr = Some(found);
                    rest
                }
                "fortran_order" => {
                    fortran_order = Some(value.starts_with("True"));
                    value.strip_prefix("True").or(value.strip_prefix("False"))?
                }
                "shape" => {
                    let (sizes, rest) = value.strip_prefix('(')?.split_once(')')?;
                    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
                    let sizes =
                        sizes.take(tensor::MAX_DIMENSIONS + 1).map(|size| size.trim_end_matches('L').parse().ok());
                    shape = Some(sizes.collect::<Option<_>>()?);
                    rest
                }
                _ => return None,
            };
            rest = rest.trim_start().trim_start_matches(',').trim_start();
        }
        Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let parse = |text| Header::parse(text).map(|header| (header.descr, header.fortran_order, header.shape));
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }    \n";
        assert_eq!(parse(text), Some(("<f4", false, vec![3, 5])));
        let text = "{'shape': (7,), 'fortran_order': True, 'descr': '|b1'}";
        assert_eq!(parse(text), Some(("|b1", true, vec![7])));
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (), }";
        assert_eq!(parse(text), Some(("<f8", false, vec![])));
        for text in ["", "{}", "{'descr': '<f4', 'shape': (3,)}", "{'descr': '<f4", "{'shape': (a,)}", "{'shape'"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn structured_arrays_are_named() {
        let header = Header::parse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }").unwrap();
        assert!(kind(header.descr).is_err());
    }
}
