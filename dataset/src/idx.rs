//! The IDX file format of the MNIST family: arrays of unsigned bytes, plain or gzipped.
//!
//! Layout (<https://yann.lecun.com/exdb/mnist/>): two zero bytes, the type (8 = unsigned byte), the number of
//! dimensions, each dimension as a big-endian 32-bit number, then the values.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result, checksum, file};

/// Upper limit of an array, far above any data set of the family (FashionMNIST: 47 MB). A larger header is damaged.
const MAX_BYTES: u64 = 1 << 30;
const UNSIGNED_BYTE: u8 = 8;
const REMEDY: &str = "delete it and run `cargo lab setup` to fetch it again";

/// An array of bytes in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Idx {
    /// MD5 of the uncompressed file.
    ///
    /// # Errors
    /// As [`write()`], for dimensions that a file can't have.
    pub fn md5(&self) -> Result<String> {
        let head = encoded_header(&self.dims)?;
        Ok(checksum::md5(head.as_slice().chain(&self.bytes[..])).expect("reading from memory succeeds"))
    }
}

/// Reads a whole file. The content, not the name, decides whether it is gzipped.
///
/// Memory grows with the data in the file, never with the size that its header announces.
///
/// # Errors
/// Fails if the file is missing, a folder, truncated, corrupt, of another format, or longer than its header says.
pub fn read(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let mut content = content(path)?;
    let dims = header(&mut content, path)?;
    let announced = announced(&dims, path)?;
    let mut bytes = Vec::new();
    // One more byte than announced shows trailing data, and makes gzip verify its checksum at the end.
    content.take(announced + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    let found = bytes.len() as u64;
    if found < announced {
        let problem = format!("is truncated: its header announces {announced} bytes of data, {found} are there");
        return Err(damaged(path, problem));
    }
    if found > announced {
        let problem = format!("has more data than the {announced} bytes that its header announces");
        return Err(damaged(path, problem));
    }
    Ok(Idx { dims, bytes })
}

/// Reads only the dimensions, from the first few bytes of the file.
///
/// # Errors
/// As [`read`], for damage in the header.
pub fn read_dims(path: impl AsRef<Path>) -> Result<Vec<usize>> {
    let path = path.as_ref();
    header(&mut content(path)?, path)
}

/// Writes a plain (not gzipped) file. A failure leaves an existing file untouched.
///
/// # Errors
/// Fails if the file can't be written, or if the dimensions don't match the number of bytes.
pub fn write(path: impl AsRef<Path>, idx: &Idx) -> Result<()> {
    let head = encoded_header(&idx.dims)?;
    if idx.dims.iter().product::<usize>() != idx.bytes.len() {
        return Err(Error::argument(format!(
            "dimensions {:?} don't match the {} bytes to write; they must multiply to the same number",
            idx.dims,
            idx.bytes.len()
        )));
    }
    file::replace(path, |out| {
        out.write_all(&head)?;
        out.write_all(&idx.bytes)
    })
}

fn encoded_header(dims: &[usize]) -> Result<Vec<u8>> {
    let mut head = vec![0, 0, UNSIGNED_BYTE];
    head.push(u8::try_from(dims.len()).map_err(|_| Error::argument("an IDX file has at most 255 dimensions"))?);
    for &dim in dims {
        let dim = u32::try_from(dim).map_err(|_| {
            Error::argument(format!("{dim} is too large for a dimension of an IDX file; the most is {}", u32::MAX))
        })?;
        head.extend(dim.to_be_bytes());
    }
    Ok(head)
}

/// Opens the uncompressed content of a plain or gzipped file.
pub(crate) fn content(path: &Path) -> Result<Box<dyn Read>> {
    // Checked before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if metadata.is_dir() {
        return Err(Error::file(path, "is a folder where an IDX file should be; name the file inside it"));
    }
    if !metadata.is_file() {
        return Err(Error::file(path, "is a pipe or a device where an IDX file should be; name a file on the disk"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let start = file.fill_buf().map_err(|error| unreadable(path, error))?;
    if start.is_empty() {
        return Err(damaged(path, "is empty".to_string()));
    }
    Ok(if start.starts_with(&[0x1f, 0x8b]) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::file(path, "doesn't exist; run `cargo lab setup` to fetch the data"),
        ErrorKind::PermissionDenied => Error::file(path, "can't be read: permission denied; change its permissions"),
        ErrorKind::UnexpectedEof => damaged(path, "is truncated".to_string()),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => damaged(path, format!("is corrupt ({error})")),
        _ => Error::file(path, format!("can't be read ({error}); check the disk and try again")),
    }
}

fn damaged(path: &Path, problem: String) -> Error {
    Error::file(path, format!("{problem}; {REMEDY}"))
}

fn header(content: &mut dyn Read, path: &Path) -> Result<Vec<usize>> {
    let mut take4 = || -> Result<[u8; 4]> {
        let mut four = [0; 4];
        content.read_exact(&mut four).map_err(|error| unreadable(path, error))?;
        Ok(four)
    };
    let [zero, zero2, kind, count] = take4()?;
    if [zero, zero2] != [0, 0] {
        return Err(damaged(path, "is not an IDX file (it doesn't start with two zero bytes)".to_string()));
    }
    if kind != UNSIGNED_BYTE {
        let problem = format!("holds IDX type 0x{kind:02x}, only unsigned bytes (0x08) are read");
        return Err(damaged(path, problem));
    }
    (0..count).map(|_| Ok(u32::from_be_bytes(take4()?) as usize)).collect()
}

/// Number of values that the header announces.
fn announced(dims: &[usize], path: &Path) -> Result<u64> {
    dims.iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim as u64))
        .filter(|&bytes| bytes <= MAX_BYTES)
        .ok_or_else(|| damaged(path, format!("announces impossible dimensions {dims:?}")))
}
