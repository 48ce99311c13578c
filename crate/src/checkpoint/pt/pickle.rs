//! The state dict that a pickle describes: its names, and views of the archive's storages.
//!
//! A state dict refers to a few Python classes and functions by name. Any other is an error, and none is ever called.

use tch::Kind;

use super::SAVE_STATE_DICT;
use super::unpickler::{Unpickler, Value, damaged};
use crate::checkpoint::printable;
use crate::checkpoint::tensor::ELEMENT_TYPES;
use crate::{Error, Result};

/// A storage as the pickle describes it: the entry `data/KEY` of the archive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub kind: Kind,
    pub key: &'a str,
    /// Number of elements.
    pub len: i64,
}

/// A tensor as the pickle describes it: a view of a storage. Offset and strides count elements.
#[derive(Clone, Debug)]
pub(super) struct TensorView<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// The tensors of a pickled state dict in their order. An error is a phrase for the user.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<(&str, TensorView<'_>)>> {
    let mut unpickler = Unpickler::new(pickle);
    let Value::Dict(dict) = unpickler.run()? else {
        return Err(Error::argument(format!("doesn't hold a dictionary of tensors; {SAVE_STATE_DICT}")));
    };
    let entries = &unpickler.dicts[dict as usize];
    let tensors = entries.iter().map(|entry| match *entry {
        (Value::Str(name), Value::View(view)) => Some((name, unpickler.views[view as usize].clone())),
        _ => None,
    });
    tensors.collect::<Option<_>>().ok_or_else(|| Error::argument(unpickler.not_a_state_dict(entries)))
}

/// The Python classes and functions that a state dict refers to.
#[derive(Clone, Copy)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Class {
    /// The class or function `module.name`.
    pub fn named(module: &str, name: &str) -> Result<Self> {
        let storage = match (module, name) {
            ("collections", "OrderedDict") => return Ok(Class::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => return Ok(Class::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => return Ok(Class::RebuildParameter),
            ("torch.storage", "UntypedStorage") => Some(Kind::Uint8),
            ("torch", name) => ELEMENT_TYPES.iter().find(|entry| entry.1 == name).map(|entry| entry.0),
            _ => None,
        };
        storage.map(Class::Storage).ok_or_else(|| {
            let class = format!("{}.{}", printable(module), printable(name));
            let is_tensor =
                class.starts_with("torch._utils._rebuild_") || (module == "torch" && name.ends_with("Storage"));
            Error::argument(if is_tensor {
                format!("holds a tensor of an unsupported type ({class}); in Python, make it a dense float32 tensor")
            } else {
                let none = "is no part of a state dict (nothing was executed)";
                format!("refers to the Python class {class}, which {none}; {SAVE_STATE_DICT}")
            })
        })
    }
}

impl<'a> Unpickler<'a> {
    /// `BinPersId`: replaces ("storage", class, key, device, length) by a storage. The device doesn't matter.
    pub fn load_storage(&mut self) -> Result<()> {
        use Value::{Int, Str};
        let Value::Tuple(tuple) = self.pop()? else { return Err(damaged("a storage without a description")) };
        let [Str("storage"), Value::Class(Class::Storage(kind)), Str(key), Str(_device), Int(len)] =
            self.tuples[tuple as usize][..]
        else {
            return Err(damaged("a storage with an unknown description"));
        };
        self.storages.push(Storage { kind, key, len });
        self.push(Value::Storage(self.storages.len() as u32 - 1))
    }

    /// `Reduce`: replaces a class or function and the tuple of its arguments by the value that the call returns.
    pub fn reduce(&mut self) -> Result<()> {
        let (Value::Tuple(tuple), Value::Class(class)) = (self.pop()?, self.pop()?) else {
            return Err(damaged("a call of something that isn't a function"));
        };
        match (class, &self.tuples[tuple as usize][..]) {
            (Class::OrderedDict, []) => self.push_dict(),
            (
                Class::RebuildTensor,
                &[Value::Storage(storage), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), _grad, _hooks],
            ) => {
                let (size, stride) = (self.integers(size)?, self.integers(stride)?);
                self.views.push(TensorView { storage: self.storages[storage as usize], offset, size, stride });
                self.push(Value::View(self.views.len() as u32 - 1))
            }
            (Class::RebuildParameter, &[view @ Value::View(_), _grad, _hooks]) => self.push(view),
            _ => Err(damaged("a call with unknown arguments")),
        }
    }

    /// The message for a dictionary that holds more than tensors by name: its entries, and which of them to save.
    fn not_a_state_dict(&self, entries: &[(Value, Value)]) -> String {
        let shown = &entries[..entries.len().min(20)];
        let mut advice = None;
        let mut list = Vec::new();
        for &(key, value) in shown {
            let key = match key {
                Value::Str(key) => format!("\"{}\"", printable(key)),
                Value::Int(key) => key.to_string(),
                _ => "another key".to_string(),
            };
            let description = match value {
                Value::View(_) => "a tensor",
                Value::Dict(dict) => match &self.dicts[dict as usize][..] {
                    [inner @ .., (_, Value::View(_))] if inner.iter().all(|(_, v)| matches!(v, Value::View(_))) => {
                        advice.get_or_insert_with(|| format!("in Python, save just its entry {key}"));
                        "a dictionary of tensors"
                    }
                    _ => "a dictionary",
                },
                Value::Int(_) => "a number",
                Value::Str(_) => "text",
                Value::Tuple(_) => "a tuple",
                Value::List => "a list",
                Value::Other(description) => description,
                Value::Class(_) | Value::Storage(_) => "an object",
            };
            list.push(format!("{key} ({description})"));
        }
        let more = if entries.len() > shown.len() { ", …" } else { "" };
        let advice = advice.unwrap_or_else(|| SAVE_STATE_DICT.to_string());
        format!("holds more than a state dict: {}{more}; {advice}", list.join(", "))
    }
}
