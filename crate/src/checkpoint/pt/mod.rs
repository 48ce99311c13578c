//! PyTorch's files: a pickle of dictionaries of tensors, and the storages of these tensors.
//!
//! `torch.save(model.state_dict(), "NAME.pt")` writes a zip archive: `NAME/data.pkl` (the pickle of an ordered dictionary
//! from names to tensors, each a view of a numbered storage), `NAME/byteorder` (`little` or `big`), `NAME/data/KEY` (the
//! bytes of storage KEY) and `NAME/version` (`3`), all without compression. Before version 1.6 it wrote the same pickle
//! and the storages one after the other ([`legacy`]).
//!
//! [`unpickler`] runs the [`opcode`]s, [`pickle`] makes tensors of them, [`entries`] chooses the dictionary, and [`views`]
//! checks each view.

mod entries;
mod legacy;
mod opcode;
mod pickle;
mod unpickler;
mod views;
mod write;

use super::archive::{Archive, budget, damaged};
use super::{Contents, printable, tensor};
use crate::error::{Error, Result, ensure};
pub(super) use legacy::{is_legacy, read as read_legacy};
use unpickler::Unpickler;
pub(super) use write::write;

/// Advice for a file that holds something other than a state dict.
const SAVE_STATE_DICT: &str = "in Python, save just the weights: torch.save(model.state_dict(), \"model.pt\")";

/// The tensors of an archive in a file of `file_len` bytes: those of the dictionary `entry`, or of the only one. An error
/// is a phrase for the user.
pub(super) fn read(mut archive: Archive, file_len: u64, entry: Option<&str>) -> Result<Contents> {
    let folder = folder(&archive)?;
    let compressed = archive.is_compressed();
    ensure!(!compressed, "is a compressed zip archive, which PyTorch never writes; in Python, save it again");
    let mut bytes = |name: &str| archive.bytes(&[&folder[..], name.as_bytes()].concat());
    let little = bytes("byteorder")?.is_none_or(|order| order == b"little");
    ensure!(little, "was written on a big-endian machine; in Python there, save it as safetensors");
    let program = bytes("data.pkl")?.expect("the folder's data.pkl");
    let mut unpickler = Unpickler::new(&program);
    let root = unpickler.run()?;
    let chosen = entries::choose(&unpickler, root, entry)?;
    let tensors = views::tensors(chosen.views, budget(file_len), |storage| {
        let name = format!("data/{}", storage.key);
        let bytes = bytes(&name)?.ok_or_else(|| damaged(format!("it has no {}", printable(&name))))?;
        tensor::from_bytes(&bytes, &[storage.len], storage.kind)
            .map_err(|problem| Error::argument(format!("its storage {} {problem}", printable(&name))))
    })?;
    Ok(Contents { tensors, notices: chosen.notices, ..Contents::default() })
}

/// "NAME/" of the one entry "NAME/data.pkl". An error says which other kind of archive this is.
fn folder(archive: &Archive) -> Result<Vec<u8>> {
    let any = |ending: &[u8]| archive.names().any(|name| name.ends_with(ending));
    ensure!(
        !any(b"/constants.pkl") && !any(b"/code/"),
        "is a TorchScript archive (torch.jit.save, or VarStore::save of tch), not a state dict; in Python, save its \
         weights: torch.save(torch.jit.load(path).state_dict(), \"model.pt\")"
    );
    let mut folders = archive
        .names()
        .filter_map(|name| name.strip_suffix(b"data.pkl"))
        .filter(|folder| folder.ends_with(b"/") && folder.iter().filter(|&&byte| byte == b'/').count() == 1);
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder.to_vec()),
        _ => Err(Error::argument(format!("is a zip archive, but not a PyTorch state dict; {SAVE_STATE_DICT}"))),
    }
}
