//! Writes PyTorch's zip archive, laid out as `torch.save` does for a state dict.

use std::io::{self, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::opcode::Opcode;
use crate::checkpoint::{StateDict, about, tensor};
use crate::{Error, Result, file};

/// The folder in the archive. PyTorch accepts any name.
const FOLDER: &str = "archive";

/// PyTorch aligns its storages so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

pub(in crate::checkpoint) fn write(path: &Path, dict: &StateDict) -> Result<()> {
    let pickle = pickle(dict).map_err(about(path))?;
    file::replace(path, |file| {
        let mut zip = ZipWriter::new(file);
        let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .with_alignment(ALIGNMENT)
                .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
            zip.start_file(format!("{FOLDER}/{name}"), options)?;
            zip.write_all(bytes)
        };
        entry("data.pkl", &pickle)?;
        entry("byteorder", b"little")?;
        for (key, (_, tensor)) in dict.0.iter().enumerate() {
            entry(&format!("data/{key}"), &tensor::to_bytes(tensor).map_err(io::Error::other)?)?;
        }
        entry("version", b"3\n")?;
        zip.finish().map(drop).map_err(Into::into)
    })
    .map_err(Into::into)
}

/// A program that builds an OrderedDict of dense tensors, each with a storage of its own (pickle protocol 2).
fn pickle(dict: &StateDict) -> Result<Vec<u8>> {
    let mut out = vec![Opcode::Proto as u8, 2];
    empty_ordered_dict(&mut out);
    out.push(Opcode::Mark as u8);
    for (key, (name, tensor)) in dict.0.iter().enumerate() {
        let (size, (class, _)) = (tensor.size(), tensor::written_type(name, tensor)?);
        text(&mut out, name)?;
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.push(Opcode::Mark as u8);
        // The storage: ("storage", class, key, device, length).
        out.push(Opcode::Mark as u8);
        text(&mut out, "storage")?;
        global(&mut out, "torch", class);
        text(&mut out, &key.to_string())?;
        text(&mut out, "cpu")?;
        integer(&mut out, tensor::elements(&size)?);
        out.extend([Opcode::Tuple as u8, Opcode::BinPersId as u8]);
        // The offset, size, strides, requires_grad and backward hooks.
        integer(&mut out, 0);
        tuple(&mut out, &size);
        tuple(&mut out, &dense_strides(&size));
        out.push(Opcode::NewFalse as u8);
        empty_ordered_dict(&mut out);
        out.extend([Opcode::Tuple as u8, Opcode::Reduce as u8]);
    }
    out.extend([Opcode::SetItems as u8, Opcode::Stop as u8]);
    Ok(out)
}

fn dense_strides(size: &[i64]) -> Vec<i64> {
    (1..=size.len()).map(|axis| size[axis..].iter().map(|&size| size.max(1)).product()).collect()
}

fn empty_ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend([Opcode::EmptyTuple as u8, Opcode::Reduce as u8]);
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(Opcode::Global as u8);
    out.extend(format!("{module}\n{name}\n").as_bytes());
}

fn tuple(out: &mut Vec<u8>, items: &[i64]) {
    out.push(Opcode::Mark as u8);
    items.iter().for_each(|&item| integer(out, item));
    out.push(Opcode::Tuple as u8);
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(value) => out.extend([&[Opcode::BinInt as u8][..], &value.to_le_bytes()].concat()),
        Err(_) => out.extend([&[Opcode::Long1 as u8, 8][..], &value.to_le_bytes()].concat()),
    }
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    let too_long = |_| Error::argument("can't be written: the name of a tensor is too long");
    let len = u32::try_from(text.len()).map_err(too_long)?;
    out.extend([&[Opcode::BinUnicode as u8][..], &len.to_le_bytes(), text.as_bytes()].concat());
    Ok(())
}
