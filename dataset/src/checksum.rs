//! MD5 as hexadecimal text. It tells files apart; it does not protect against an attacker.

use std::io::{self, Read};

use md5::{Digest, Md5};

/// Reads `content` to its end and returns its MD5.
///
/// ```
/// use vitlab_dataset::checksum::md5;
/// assert_eq!(md5(&b"abc"[..]).unwrap(), "900150983cd24fb0d6963f7d28e17f72"); // RFC 1321, section A.5
/// ```
///
/// # Errors
/// Returns the error of a failed read.
pub fn md5(mut content: impl Read) -> io::Result<String> {
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}
