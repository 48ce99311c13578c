//! Weight files made piece by piece.

use std::io::{Cursor, Write};

use vitlab::checkpoint::{StateDict, read};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Reads a file of these bytes.
pub fn read_bytes(bytes: &[u8]) -> vitlab::Result<StateDict> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path())
}

/// The error of reading a file of these bytes, without the file's name.
pub fn refusal(bytes: &[u8]) -> String {
    let message = match read_bytes(bytes) {
        Ok(dict) => panic!("accepted: {dict:?}"),
        Err(error) => error.to_string(),
    };
    assert!(message.len() < 1500 && !message.contains(char::is_control), "{message:?}");
    message.split_once(": ").unwrap().1.to_string()
}

pub fn archive_with(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(CompressionMethod::Stored, entries)
}

/// A PyTorch file with this pickle and one storage, `data/0`, of four float32 values.
pub fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    archive(&[("model/data.pkl", pickle), ("model/data/0", &[0; 16])])
}

pub fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub fn integer(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

pub fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|&item| integer(item)).collect();
    [b"(", &items[..], b"t"].concat()
}

/// What a tensor of `data/0` says of itself.
pub struct Described<'a> {
    pub class: &'a str,
    pub key: &'a str,
    pub len: i64,
    pub offset: i64,
    pub size: &'a [i64],
    pub stride: &'a [i64],
}

pub const GOOD: Described =
    Described { class: "FloatStorage", key: "0", len: 4, offset: 0, size: &[2, 2], stride: &[2, 1] };

impl Described<'_> {
    pub fn pickle(&self) -> Vec<u8> {
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

/// A pickled dictionary of these names and pickled values.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"\x80\x02}(", &entries[..], b"u."].concat()
}
