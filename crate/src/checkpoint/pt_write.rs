//! Writing PyTorch's zip format, as `torch.save` lays it out for a state dict.

use std::io::{self, Seek, Write};

use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{StateDict, tensor};

/// The folder in the archive; PyTorch takes any.
const FOLDER: &str = "archive";

/// PyTorch aligns its storages so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

pub(super) fn write(file: impl Write + Seek, dict: &StateDict) -> io::Result<()> {
    let mut zip = ZipWriter::new(file);
    let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        zip.write_all(bytes)
    };
    entry("data.pkl", &pickle(dict)?)?;
    entry("byteorder", b"little")?;
    for (key, (_, tensor)) in dict.0.iter().enumerate() {
        let bytes = tensor::to_bytes(tensor).map_err(io::Error::other)?;
        entry(&format!("data/{key}"), &bytes)?;
    }
    entry("version", b"3\n")?;
    zip.finish()?;
    Ok(())
}

/// The program that rebuilds an OrderedDict of dense tensors, each with a storage of its own (pickle protocol 2).
fn pickle(dict: &StateDict) -> io::Result<Vec<u8>> {
    let mut out = vec![0x80, 2];
    ordered_dict(&mut out);
    out.push(b'(');
    for (key, (name, tensor)) in dict.0.iter().enumerate() {
        let size = tensor.size();
        let elements = tensor::elements(&size).map_err(io::Error::other)?;
        text(&mut out, name)?;
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
        out.push(b'(');
        text(&mut out, "storage")?;
        out.extend(format!("ctorch\n{}\n", storage_class(name, tensor)?).as_bytes());
        text(&mut out, &key.to_string())?;
        text(&mut out, "cpu")?;
        integer(&mut out, elements);
        out.extend(b"tQ");
        integer(&mut out, 0);
        tuple(&mut out, &size);
        tuple(&mut out, &dense_strides(&size));
        // requires_grad: false; no backward hooks.
        out.push(0x89);
        ordered_dict(&mut out);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn storage_class(name: &str, tensor: &Tensor) -> io::Result<&'static str> {
    Ok(match tensor.f_kind().map_err(io::Error::other)? {
        Kind::Double => "DoubleStorage",
        Kind::Float => "FloatStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        other => {
            return Err(io::Error::other(format!("{name} is of type {other:?}; convert it to float32 first")));
        }
    })
}

fn dense_strides(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for axis in (1..size.len()).rev() {
        strides[axis - 1] = strides[axis] * size[axis].max(1);
    }
    strides
}

fn ordered_dict(out: &mut Vec<u8>) {
    out.extend(b"ccollections\nOrderedDict\n)R");
}

fn tuple(out: &mut Vec<u8>, items: &[i64]) {
    out.push(b'(');
    for &item in items {
        integer(out, item);
    }
    out.push(b't');
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(value.to_le_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let len = u32::try_from(text.len()).map_err(io::Error::other)?;
    out.push(b'X');
    out.extend(len.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(())
}
