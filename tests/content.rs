//! The content of state dicts in a form that tests compare bit for bit with PyTorch's.

use tch::{Kind, Tensor};
use vitlab::checkpoint::StateDict;

/// For each tensor its name, PyTorch's name of its type, its shape and its bytes in hexadecimal.
pub type Content = Vec<(String, String, Vec<i64>, String)>;

pub fn content(dict: &StateDict) -> Content {
    let entry = |(name, tensor): &(String, Tensor)| {
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let kind = kind_name(tensor.kind()).to_string();
        (name.clone(), kind, tensor.size(), hex)
    };
    dict.0.iter().map(entry).collect()
}

pub fn sorted(mut content: Content) -> Content {
    content.sort();
    content
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        Kind::Int => "int32",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        Kind::Bool => "bool",
        other => panic!("{other:?}"),
    }
}
