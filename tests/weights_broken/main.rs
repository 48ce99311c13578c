//! Broken and malicious checkpoint files: each is an error, and none takes more time or memory than its size allows.

#[path = "../archive.rs"]
mod archive;
mod containers;
#[path = "../memory.rs"]
mod memory;
mod pickles;

use std::io::Write;

use archive::archive;
use vitlab::checkpoint::{StateDict, read};

/// Reads a file of these bytes.
fn read_bytes(bytes: &[u8]) -> vitlab::Result<StateDict> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path())
}

/// The error of reading a file of these bytes, without the file's name.
fn refusal(bytes: &[u8]) -> String {
    let message = match read_bytes(bytes) {
        Ok(dict) => panic!("accepted: {dict:?}"),
        Err(error) => error.to_string(),
    };
    assert!(message.len() < 1500 && !message.contains(char::is_control), "{message:?}");
    message.split_once(": ").unwrap().1.to_string()
}

/// A .pt file with this pickle and one storage, `data/0`, of four float32 values.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    archive(&[("model/data.pkl", pickle), ("model/data/0", &[0; 16])])
}
