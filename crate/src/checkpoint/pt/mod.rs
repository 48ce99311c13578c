//! PyTorch's .pt and .pth files: a zip archive of a pickled state dict and the storages of its tensors.
//!
//! `torch.save(model.state_dict(), "NAME.pt")` writes these entries, without compression:
//!
//! | entry | content |
//! |---|---|
//! | `NAME/data.pkl` | pickle of an ordered dictionary from names to tensors, each a view of a numbered storage |
//! | `NAME/byteorder` | `little` or `big` |
//! | `NAME/data/KEY` | the bytes of storage KEY |
//! | `NAME/version` | `3` |
//!
//! [`read`] checks the archive and each view, [`pickle`] finds the tensors that the pickle describes, [`unpickler`]
//! runs the pickle's [`opcode`]s without executing any Python.

mod opcode;
mod pickle;
mod read;
mod unpickler;
mod write;

pub(super) use read::read;
pub(super) use write::write;

/// Advice for a file that holds something else than a state dict.
const SAVE_STATE_DICT: &str = "in Python, save just the weights: torch.save(model.state_dict(), \"model.pt\")";
