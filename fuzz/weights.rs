//! Checkpoint files of arbitrary bytes: as they are, or as the pickle or array of an archive with correct checksums, or as
//! the pickle of a file before PyTorch 1.6. Nothing may panic; libFuzzer watches time and memory.
#![no_main]

#[allow(dead_code)] // Only the archive is built here; its pickle comes from the fuzzer.
#[path = "../tests/archive.rs"]
mod archive;

use std::io::Write;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let bytes = match input {
        [b'p', pickle @ ..] => archive::archive(&[("a/data.pkl", pickle), ("a/data/0", &[0; 64])]),
        [b'n', array @ ..] => archive::archive(&[("a.npy", array)]),
        [b'l', pickle @ ..] => {
            let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
            // One storage of 16 float32 values or 64 bytes, whose key is 0.
            [&magic[..], pickle, b"\x80\x02]X\x01\x00\x00\x000a.", &16_u64.to_le_bytes(), &[0; 64]].concat()
        }
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
