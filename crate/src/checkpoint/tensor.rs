//! Tensors from bytes and back: what both file formats share.

use tch::{Device, Kind, Tensor};

/// More than libtorch's own operations take.
const MAX_DIMENSIONS: usize = 64;

/// Number of elements of a shape. An error if a size is negative or if libtorch's own arithmetic would overflow.
pub(super) fn elements(shape: &[i64]) -> Result<i64, String> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(format!("has {} dimensions", shape.len()));
    }
    // With an empty dimension the others still count: libtorch multiplies them for the strides.
    let room = shape.iter().try_fold(1_i64, |product, &size| {
        (size >= 0).then(|| product.checked_mul(size.max(1))).flatten().filter(|&room| room < i64::MAX / 16)
    });
    match room {
        Some(room) if !shape.contains(&0) => Ok(room),
        Some(_) => Ok(0),
        None => Err(format!("has the impossible shape {shape:?}")),
    }
}

/// A CPU tensor with a copy of little-endian `bytes`, whose number must match the shape exactly.
pub(super) fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor, String> {
    let expected = elements(shape)? as u64 * kind.elt_size_in_bytes() as u64;
    if bytes.len() as u64 != expected {
        return Err(format!("has {} bytes, but its shape and type need {expected}", bytes.len()));
    }
    if kind == Kind::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err("holds truth values other than 0 and 1".to_string());
    }
    if cfg!(target_endian = "big") {
        return Err("can only be read on a little-endian machine".to_string());
    }
    Tensor::f_from_data_size(bytes, shape, kind).map_err(sentence)
}

/// The elements in row-major order, little-endian, whatever the tensor's strides and device are.
pub(super) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>, String> {
    let dense =
        tensor.f_detach().and_then(|t| t.f_to_device(Device::Cpu)).and_then(|t| t.f_contiguous()).map_err(sentence)?;
    let mut bytes = vec![0; dense.numel() * dense.kind().elt_size_in_bytes()];
    dense.f_copy_data_u8(&mut bytes, dense.numel()).map_err(sentence)?;
    Ok(bytes)
}

/// libtorch's message without its stack trace.
pub(super) fn sentence(error: tch::TchError) -> String {
    crate::Error::from(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_errors() {
        assert_eq!(elements(&[2, 3, 4]), Ok(24));
        assert_eq!(elements(&[]), Ok(1));
        assert_eq!(elements(&[5, 0]), Ok(0));
        for shape in [&[-1][..], &[1 << 40, 1 << 40], &[0, 1 << 40, 1 << 40]] {
            assert!(elements(shape).is_err(), "{shape:?}");
        }
        assert!(elements(&[1; 65]).is_err());
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
