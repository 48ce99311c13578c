//! PyTorch's .pt and .pth files: a zip archive of a pickled state dict and the storages of its tensors.
//!
//! `torch.save(model.state_dict(), "NAME.pt")` writes `NAME/data.pkl` (the pickle of an ordered dictionary from names to
//! tensors, each a view of a numbered storage), `NAME/byteorder` (`little` or `big`), `NAME/data/KEY` (the bytes of storage
//! KEY) and `NAME/version` (`3`), all without compression.
//!
//! [`read`] checks the archive and each view, [`pickle`] finds the tensors, [`unpickler`] runs the [`opcode`]s.

mod opcode;
mod pickle;
mod unpickler;
mod write;

use std::collections::hash_map::{Entry, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};

use tch::{Device, Tensor};
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;

use super::{StateDict, about_tensor, printable, tensor};
use crate::error::{Error, Result, ensure};
use pickle::{Storage, TensorView};
pub(super) use write::write;

/// Advice for a file that holds something other than a state dict.
const SAVE_STATE_DICT: &str = "in Python, save just the weights: torch.save(model.state_dict(), \"model.pt\")";

/// A state dict has at most one entry for each tensor, and a few more.
const MAX_ENTRIES: usize = 8_000;

/// Views can repeat elements. Copies of all tensors may take this many times the file's size, or [`MIN_BUDGET`] bytes.
const MAX_REPETITION: u64 = 4;
const MIN_BUDGET: u64 = 64 << 20;

/// The tensors of an archive of `file_len` bytes. An error is a phrase for the user.
pub(super) fn read(file: File, file_len: u64) -> Result<StateDict> {
    let mut archive = Archive::open(file, file_len)?;
    let little = archive.bytes("byteorder")?.is_none_or(|order| order == b"little");
    ensure!(little, "was written on a big-endian machine; in Python there, save it as safetensors");
    let program = archive.bytes("data.pkl")?;
    let program = program.ok_or_else(|| Error::argument("has no data.pkl, so it isn't a PyTorch file"))?;
    let mut storages = HashMap::new();
    let mut budget = (MAX_REPETITION * file_len).max(MIN_BUDGET);
    let mut tensors = Vec::new();
    for (name, view) in pickle::state_dict(&program)? {
        let (kind, storage) = match storages.entry(view.storage.key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((view.storage.kind, archive.storage(&view.storage)?)),
        };
        let (same, key) = (*kind == view.storage.kind && storage.size() == [view.storage.len], view.storage.key);
        ensure!(same, "describes its storage data/{} in two ways; copy or save it again", printable(key));
        tensors.push((name.to_string(), view_of(storage, &view, &mut budget).map_err(about_tensor(name))?));
    }
    StateDict::checked(tensors)
}

/// Creates the view without a copy, so that a file's tensors never take more memory than the file.
fn view_of(storage: &Tensor, view: &TensorView, budget: &mut u64) -> Result<Tensor> {
    let elements = tensor::elements(&view.size)?;
    ensure!(view.size.len() == view.stride.len() && view.offset >= 0, "has strides that don't match its shape");
    let last = view.size.iter().zip(&view.stride).try_fold(view.offset, |last, (&size, &stride)| {
        let span = (size - 1).max(0).checked_mul(stride)?;
        last.checked_add(span).filter(|_| stride >= 0)
    });
    let len = view.storage.len;
    let inside = elements == 0 || last.is_some_and(|last| last < len);
    ensure!(inside, "reaches beyond the {len} elements of its storage");
    let bytes = elements as u64 * view.storage.kind.elt_size_in_bytes() as u64;
    ensure!(bytes <= *budget, "repeats its elements without end (expand); save a copy of it");
    *budget -= bytes;
    // Strides and offset of an empty tensor are never used and may have any value in the file.
    Ok(if elements == 0 {
        Tensor::f_empty(&view.size, (view.storage.kind, Device::Cpu))?
    } else {
        storage.f_as_strided(&view.size, &view.stride, view.offset)?
    })
}

struct Archive {
    file: BufReader<File>,
    /// By name, without the folder that all of them are in.
    entries: HashMap<Vec<u8>, ZipFileEntry<'static>>,
}

impl Archive {
    fn open(file: File, file_len: u64) -> Result<Self> {
        let mut file = BufReader::new(file);
        // ArchiveOffset::Detect mistakes a 76-byte first directory entry (a folder of 21 letters) for a zip64 record.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut directory = ZipIterable::try_new(&mut file, config).map_err(damaged)?.enforce_header_consistency(true);
        ensure!(directory.len() <= MAX_ENTRIES, "is an archive of {} files", directory.len());
        let listed = directory.files().map_err(damaged)?.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        let folder = folder(&listed)?;
        let mut room = file_len;
        let mut entries = HashMap::new();
        for entry in listed {
            let stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
            ensure!(stored, "is a compressed zip archive, which PyTorch never writes; in Python, save it again");
            // Entries larger than the file together would share bytes, as in a decompression bomb.
            room = room.checked_sub(entry.size()).ok_or_else(|| damaged("its entries are larger than the file"))?;
            if let Some(name) = entry.name_raw().strip_prefix(&folder[..])
                && entries.insert(name.to_vec(), entry).is_some()
            {
                return Err(damaged("it has two entries of the same name"));
            }
        }
        Ok(Archive { file, entries })
    }

    /// Removes the entry and returns its content, or `None` if absent. Verifies its checksum.
    fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.entries.remove(name.as_bytes()) else { return Ok(None) };
        let mut bytes = vec![0; entry.size() as usize];
        let mut reader = entry.with_reader(&mut self.file, Default::default()).map_err(damaged)?;
        reader.read_exact(&mut bytes).map_err(damaged)?;
        // The reader compares the checksum when it reaches the end.
        match reader.read(&mut [0]).map_err(damaged)? {
            0 => Ok(Some(bytes)),
            _ => Err(damaged("an entry is longer than it says")),
        }
    }

    fn storage(&mut self, storage: &Storage) -> Result<Tensor> {
        let name = format!("data/{}", storage.key);
        let bytes = self.bytes(&name)?.ok_or_else(|| damaged(format!("it has no {}", printable(&name))))?;
        tensor::from_bytes(&bytes, &[storage.len], storage.kind)
            .map_err(|problem| Error::argument(format!("its storage {} {problem}", printable(&name))))
    }
}

/// "NAME/" of the one entry "NAME/data.pkl". An error says which other kind of archive this is.
fn folder(entries: &[ZipFileEntry]) -> Result<Vec<u8>> {
    let any = |ending: &[u8]| entries.iter().any(|entry| entry.name_raw().ends_with(ending));
    ensure!(
        !any(b"/constants.pkl") && !any(b"/code/"),
        "is a TorchScript archive (torch.jit.save, or VarStore::save of tch), not a state dict; in Python, save its \
         weights: torch.save(torch.jit.load(path).state_dict(), \"model.pt\")"
    );
    ensure!(
        !any(b".npy"),
        "is a NumPy archive (.npz); save the weights as a PyTorch state dict (.pt) or as .safetensors"
    );
    let mut folders = entries
        .iter()
        .filter_map(|entry| entry.name_raw().strip_suffix(b"data.pkl"))
        .filter(|folder| folder.ends_with(b"/") && folder.iter().filter(|&&byte| byte == b'/').count() == 1);
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder.to_vec()),
        _ => Err(Error::argument(format!("is a zip archive, but not a PyTorch state dict; {SAVE_STATE_DICT}"))),
    }
}

/// The message for a truncated or otherwise damaged archive. An empty file is reported in `checkpoint/mod.rs`, a cut
/// pickle in `unpickler.rs`.
fn damaged(cause: impl Display) -> Error {
    Error::argument(format!("is damaged ({cause}); copy or save it again"))
}
