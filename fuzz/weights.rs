//! Weight files made of whatever the fuzzer finds: as they are, or as the pickle of an archive whose checksums are
//! right. Nothing may panic; libFuzzer watches time and memory.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[0; 64])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fuzz_target!(|input: &[u8]| {
    let bytes = match input {
        [b'p', pickle @ ..] => archive(pickle),
        file => file.to_vec(),
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    if let Ok(dict) = vitlab::checkpoint::read(file.path()) {
        for (_, tensor) in &dict.0 {
            // Reads every element.
            let _ = tensor.contiguous();
        }
    }
});
