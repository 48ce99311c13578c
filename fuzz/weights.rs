//! Checkpoint files of arbitrary bytes: as they are, or as the pickle of an archive with correct checksums. Nothing may
//! panic; libFuzzer watches time and memory.
#![no_main]

#[allow(dead_code)] // Only the archive is built here; its pickle comes from the fuzzer.
#[path = "../tests/archive.rs"]
mod archive;

use std::io::Write;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let bytes = match input {
        [b'p', pickle @ ..] => archive::archive(&[("a/data.pkl", pickle), ("a/data/0", &[0; 64])]),
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
