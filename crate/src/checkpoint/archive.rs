//! Zip archives, as PyTorch and NumPy write them: every entry is checked before its content is read.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};

use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;

use crate::error::{Error, Result, ensure};

/// A state dict has at most one entry for each tensor, and a few more.
const MAX_ENTRIES: usize = 8_000;

/// Bytes that a file of `file_len` bytes may become: repeated elements of views, and compressed entries.
pub(super) fn budget(file_len: u64) -> u64 {
    const MAX_REPETITION: u64 = 4;
    const MIN_BUDGET: u64 = 64 << 20;
    (MAX_REPETITION * file_len).max(MIN_BUDGET)
}

/// An open archive. An error is a phrase for the user.
pub(super) struct Archive {
    file: BufReader<File>,
    /// In the directory's order; `None` once it is read.
    entries: Vec<Option<ZipFileEntry<'static>>>,
    names: Vec<Box<[u8]>>,
    /// Indices into `names`, sorted by name.
    by_name: Vec<usize>,
}

impl Archive {
    /// Reads the directory of an archive of `file_len` bytes.
    pub fn open(file: File, file_len: u64) -> Result<Self> {
        let mut file = BufReader::new(file);
        // ArchiveOffset::Detect mistakes a 76-byte first directory entry (a folder of 21 letters) for a zip64 record.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut directory = ZipIterable::try_new(&mut file, config).map_err(damaged)?.enforce_header_consistency(true);
        ensure!(directory.len() <= MAX_ENTRIES, "is an archive of {} files", directory.len());
        let entries = directory.files().map_err(damaged)?.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        // Entries that are together larger than the file share bytes, as in a decompression bomb.
        let (mut room, mut unpacked) = (file_len, budget(file_len));
        for entry in &entries {
            ensure!(!entry.encrypted(), "is an encrypted zip archive; unpack it first");
            let larger = || damaged("its entries are larger than the file");
            room = room.checked_sub(entry.compressed_size()).ok_or_else(larger)?;
            unpacked = unpacked.checked_sub(entry.size()).ok_or_else(larger)?;
            let stored = entry.compression() == CompressionMethod::Stored;
            ensure!(!stored || entry.size() == entry.compressed_size(), "{}", larger());
        }
        let names: Vec<Box<[u8]>> = entries.iter().map(|entry| entry.name_raw().into()).collect();
        let mut by_name: Vec<usize> = (0..names.len()).collect();
        by_name.sort_by_key(|&index| &names[index]);
        let twice = by_name.windows(2).any(|pair| names[pair[0]] == names[pair[1]]);
        ensure!(!twice, "{}", damaged("it has two entries of the same name"));
        Ok(Archive { file, entries: entries.into_iter().map(Some).collect(), names, by_name })
    }

    /// The names of all entries, in the directory's order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|name| &name[..])
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of the entry at that place of the directory.
    pub fn name(&self, index: usize) -> &[u8] {
        &self.names[index]
    }

    /// Whether any entry that isn't read yet is compressed.
    pub fn is_compressed(&self) -> bool {
        self.entries.iter().flatten().any(|entry| entry.compression() != CompressionMethod::Stored)
    }

    /// Removes the entry and returns its content, or `None` if absent. Verifies its checksum.
    pub fn bytes(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.by_name.binary_search_by(|&index| (*self.names[index]).cmp(name));
        let Some(entry) = found.ok().and_then(|place| self.entries[self.by_name[place]].take()) else {
            return Ok(None);
        };
        let mut bytes = vec![0; entry.size() as usize];
        let mut reader = entry.with_reader(&mut self.file, Default::default()).map_err(damaged)?;
        reader.read_exact(&mut bytes).map_err(damaged)?;
        // The reader compares the checksum when it reaches the end.
        match reader.read(&mut [0]).map_err(damaged)? {
            0 => Ok(Some(bytes)),
            _ => Err(damaged("an entry is longer than it says")),
        }
    }
}

/// The message for a truncated or otherwise damaged file. A file without any content is reported in `format.rs`.
pub(super) fn damaged(cause: impl Display) -> Error {
    Error::argument(format!("is damaged ({cause}); copy or save it again"))
}
