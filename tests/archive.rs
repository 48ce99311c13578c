//! Builds .pt files from their parts, valid or not: the zip archive, the pickle of a state dict.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A zip archive of these entries, each a name and its content, without compression.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickled dictionary of these names and pickled values.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"\x80\x02}(", &entries[..], b"u."].concat()
}

/// A tensor as the pickle describes it: a view of the storage `data/KEY`.
pub struct TensorPickle<'a> {
    pub class: &'a str,
    pub key: &'a str,
    pub len: i64,
    pub offset: i64,
    pub size: &'a [i64],
    pub stride: &'a [i64],
}

/// A valid 2 × 2 view of `data/0`, four float32 values.
pub const VALID: TensorPickle =
    TensorPickle { class: "FloatStorage", key: "0", len: 4, offset: 0, size: &[2, 2], stride: &[2, 1] };

impl TensorPickle<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        [
            &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
            &text("storage"),
            format!("ctorch\n{}\n", self.class).as_bytes(),
            &text(self.key),
            &text("cpu"),
            &integer(self.len),
            b"tQ",
            &integer(self.offset),
            &tuple(self.size),
            &tuple(self.stride),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    }
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn integer(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|&item| integer(item)).collect();
    [b"(", &items[..], b"t"].concat()
}
