//! The format that PyTorch wrote before version 1.6, and writes with `_use_new_zipfile_serialization=False`.
//!
//! Five pickles, one after the other: a magic number, the version of the format, the machine's byte order and sizes, the
//! saved object, and the keys of its storages. Then the storages in the order of their keys, each as its number of
//! elements (8 bytes, little-endian) and its bytes. There are no checksums.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use tch::{Kind, Tensor};

use super::pickle::Storage;
use super::unpickler::{Unpickler, Value};
use super::{SAVE_STATE_DICT, entries, views};
use crate::checkpoint::archive::{budget, damaged};
use crate::checkpoint::{Contents, printable, tensor};
use crate::error::{Error, Result, ensure};

/// PyTorch's magic number, little-endian, as the pickled integer has it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The version of the format, of which there is one.
const PROTOCOL_VERSION: i64 = 1001;

/// Bytes that are read first to find the end of the pickles.
const FIRST_READ: u64 = 64 << 10;

/// Whether a file with this start (30 bytes are enough) is in this format. The integer is the first value of a pickle;
/// protocol 4 has a frame (9 bytes) before it.
pub(in crate::checkpoint) fn is_legacy(start: &[u8]) -> bool {
    let integer = [&[0x8a, 10], &MAGIC[..]].concat();
    start.first() == Some(&0x80) && start.windows(integer.len()).take(12).any(|window| window == integer)
}

/// The tensors of a file of `file_len` bytes, as [`super::read`] returns them.
pub(in crate::checkpoint) fn read(mut file: File, file_len: u64, entry: Option<&str>) -> Result<Contents> {
    let program = program(&mut file, file_len)?;
    let (object, root, keys) = unpickled(&program)?;
    let chosen = entries::choose(&object, root, entry)?;
    let places = places(&mut file, file_len, program.len() as u64, &object, &keys)?;
    let tensors = views::tensors(chosen.views, budget(file_len), |storage| {
        load(&mut file, &places, storage)
            .map_err(|problem| Error::argument(format!("its storage {} {problem}", printable(storage.key))))
    })?;
    Ok(Contents { tensors, notices: chosen.notices, ..Contents::default() })
}

/// The bytes of the five pickles. Their length is in no header, so more and more of the file is read.
fn program(file: &mut File, file_len: u64) -> Result<Vec<u8>> {
    let mut len = FIRST_READ.min(file_len);
    loop {
        let mut bytes = vec![0; len as usize];
        file.rewind().and_then(|()| file.read_exact(&mut bytes)).map_err(damaged)?;
        match pickles_len(&bytes) {
            Ok(Some(len)) => {
                bytes.truncate(len);
                bytes.shrink_to_fit();
                return Ok(bytes);
            }
            Ok(None) if len < file_len => len = (4 * len).min(file_len),
            Ok(None) => return Err(damaged("it ends in the middle of a pickle")),
            Err(problem) => return Err(problem),
        }
    }
}

/// Length of the five pickles; `None` if they don't end within the bytes.
fn pickles_len(bytes: &[u8]) -> Result<Option<usize>> {
    let mut position = 0;
    for _ in 0..5 {
        let mut unpickler = Unpickler::new(&bytes[position..]);
        match unpickler.run() {
            Err(_) if unpickler.ended_early => return Ok(None),
            result => result.map(drop)?,
        }
        position += unpickler.position();
    }
    Ok(Some(position))
}

/// The saved object, and the keys of its storages. Checks the values before them.
fn unpickled(bytes: &[u8]) -> Result<(Unpickler<'_>, Value<'_>, Vec<&str>)> {
    let mut position = 0;
    let mut next = || {
        let mut unpickler = Unpickler::new(&bytes[position..]);
        let value = unpickler.run()?;
        position += unpickler.position();
        Ok::<_, Error>((unpickler, value))
    };
    next()?; // The magic number, which `is_legacy` has compared.
    let version = matches!(next()?.1, Value::Int(PROTOCOL_VERSION));
    ensure!(version, "is in an unknown version of the format that PyTorch wrote before version 1.6; save it again");
    next()?; // Byte order and sizes of the machine, on which the file doesn't depend.
    let (object, root) = next()?;
    let (last, keys) = next()?;
    let Value::List(keys) = keys else { return Err(damaged("it has no list of storages")) };
    let keys = last.lists[keys as usize].iter().map(|key| match *key {
        Value::Str(key) => Ok(key),
        _ => Err(damaged("the key of a storage isn't text")),
    });
    let keys = keys.collect::<Result<_>>()?;
    Ok((object, root, keys))
}

/// Position of a storage in the file, and its number of elements.
struct Place {
    start: u64,
    len: i64,
    kind: Kind,
}

/// Finds the storages, which begin at `position` in the file.
fn places<'a>(
    file: &mut File,
    file_len: u64,
    mut position: u64,
    object: &Unpickler<'a>,
    keys: &[&'a str],
) -> Result<HashMap<&'a str, Place>> {
    let kinds: HashMap<&str, Kind> = object.storages.iter().rev().map(|(s, _)| (s.key, s.kind)).collect();
    let mut places = HashMap::new();
    for &key in keys {
        let known = kinds.get(key).copied();
        let unsupported = || Error::argument(format!("has a storage of an unsupported type; {SAVE_STATE_DICT}"));
        let kind = known.ok_or_else(unsupported)?;
        let mut len = [0; 8];
        file.seek(SeekFrom::Start(position)).and_then(|_| file.read_exact(&mut len)).map_err(damaged)?;
        let len = i64::from_le_bytes(len);
        let start = position + 8;
        let bytes = tensor::elements(&[len]).map_err(damaged)? as u64 * kind.elt_size_in_bytes() as u64;
        let end = start.checked_add(bytes).filter(|&end| end <= file_len);
        position = end.ok_or_else(|| damaged(format!("it ends before its storage {} does", printable(key))))?;
        let twice = places.insert(key, Place { start, len, kind }).is_some();
        ensure!(!twice, "{}", damaged("it has two storages of the same key"));
    }
    Ok(places)
}

fn load(file: &mut File, places: &HashMap<&str, Place>, storage: &Storage) -> Result<Tensor> {
    let Some(place) = places.get(storage.key) else {
        return Err(Error::argument("isn't in the file; copy or save it again"));
    };
    let (found, expected) = ((place.len, place.kind), (storage.len, storage.kind));
    ensure!(found == expected, "is described in two ways; copy or save the file again");
    let mut bytes = vec![0; storage.len as usize * storage.kind.elt_size_in_bytes()];
    let read = file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut bytes));
    read.map_err(|error| Error::argument(format!("can't be read: {error}")))?;
    tensor::from_bytes(&bytes, &[storage.len], storage.kind)
}
