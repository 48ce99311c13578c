//! Conversion between tensors and little-endian bytes, shared by both file formats.

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, ensure};

/// libtorch's own operations support at most this many dimensions.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// The supported element types: tch's, PyTorch's storage class `torch.NAME`, and safetensors'.
pub(super) const ELEMENT_TYPES: [(Kind, &str, Dtype); 10] = [
    (Kind::Double, "DoubleStorage", Dtype::F64),
    (Kind::Float, "FloatStorage", Dtype::F32),
    (Kind::Half, "HalfStorage", Dtype::F16),
    (Kind::BFloat16, "BFloat16Storage", Dtype::BF16),
    (Kind::Int64, "LongStorage", Dtype::I64),
    (Kind::Int, "IntStorage", Dtype::I32),
    (Kind::Int16, "ShortStorage", Dtype::I16),
    (Kind::Int8, "CharStorage", Dtype::I8),
    (Kind::Uint8, "ByteStorage", Dtype::U8),
    (Kind::Bool, "BoolStorage", Dtype::BOOL),
];

/// PyTorch's storage class and safetensors' type for the elements of a tensor that is to be written.
pub(super) fn written_type(name: &str, tensor: &Tensor) -> Result<(&'static str, Dtype)> {
    let kind = tensor.f_kind()?;
    let entry = ELEMENT_TYPES.iter().find(|entry| entry.0 == kind).map(|&(_, class, dtype)| (class, dtype));
    let problem = || format!("can't be written: its tensor {name} is of type {kind:?}; convert it to float32 first");
    entry.ok_or_else(|| Error::argument(problem()))
}

/// Number of elements of a shape. Fails if a size is negative or if libtorch's arithmetic on it would overflow.
pub(super) fn elements(shape: &[i64]) -> Result<i64> {
    ensure!(shape.len() <= MAX_DIMENSIONS, "has {} dimensions", shape.len());
    // An empty dimension counts as 1: libtorch multiplies the others for the strides.
    let product = shape.iter().try_fold(1_i64, |product, &size| {
        let product = product.checked_mul(size.max(1))?;
        (size >= 0 && product < i64::MAX / 16).then_some(product)
    });
    match product {
        Some(_) if shape.contains(&0) => Ok(0),
        Some(product) => Ok(product),
        None => Err(Error::argument(format!("has the impossible shape {shape:?}"))),
    }
}

/// Creates a CPU tensor from a copy of little-endian `bytes`, whose number must match the shape exactly.
pub(super) fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    let (found, expected) = (bytes.len() as u64, elements(shape)? as u64 * kind.elt_size_in_bytes() as u64);
    ensure!(found == expected, "has {found} bytes, but its shape and type need {expected}");
    let valid = kind != Kind::Bool || bytes.iter().all(|&byte| byte <= 1);
    ensure!(valid, "holds truth values other than 0 and 1");
    ensure!(cfg!(target_endian = "little"), "can only be read on a little-endian machine");
    Ok(Tensor::f_from_data_size(bytes, shape, kind)?)
}

/// The elements in row-major order, little-endian. Strides and device of the tensor don't matter.
pub(super) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let dense = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; dense.numel() * dense.kind().elt_size_in_bytes()];
    dense.f_copy_data_u8(&mut bytes, dense.numel())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_errors() {
        for (shape, expected) in [
            (&[2, 3, 4][..], Some(24)),
            (&[], Some(1)),
            (&[5, 0], Some(0)),
            (&[-1], None),
            (&[1 << 40, 1 << 40], None),
            (&[0, 1 << 40, 1 << 40], None),
            (&[1; 65], None),
        ] {
            assert_eq!(elements(shape).ok(), expected, "{shape:?}");
        }
    }

    #[test]
    fn bytes_must_match_shape_and_type() {
        let tensor = from_bytes(&[0, 0, 128, 63, 0, 0, 0, 192], &[2], Kind::Float).unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1.0_f32, -2.0]));
        assert_eq!(to_bytes(&tensor).unwrap(), [0, 0, 128, 63, 0, 0, 0, 192]);
        assert!(from_bytes(&[0; 7], &[2], Kind::Float).is_err());
        assert!(from_bytes(&[1, 2], &[2], Kind::Bool).is_err());
        assert_eq!(from_bytes(&[], &[0, 3], Kind::Half).unwrap().size(), [0, 3]);
    }
}
