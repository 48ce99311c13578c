//! The Python classes and functions that tensors and dictionaries are made with, and what their calls return.
//!
//! Only those of [`Class`] have a meaning here. None is ever called, and neither is any other.

use tch::Kind;

use super::unpickler::{Unpickler, Value, damaged};
use crate::Result;
use crate::checkpoint::printable;
use crate::checkpoint::tensor::ELEMENT_TYPES;

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

/// A Python class or function.
#[derive(Clone, Copy)]
pub(super) enum Class {
    OrderedDict,
    DefaultDict,
    RebuildTensor,
    RebuildParameter,
    /// Rebuilds a tensor that has Python attributes, with another function.
    RebuildFromType,
    Storage(Kind),
    /// Any other, as an index into [`Unpickler::classes`].
    Unknown(u32),
}

impl Class {
    /// The class or function `module.name`; `None` for an unknown one.
    pub fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Class::OrderedDict,
            ("collections", "defaultdict") => Class::DefaultDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Class::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Class::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Class::RebuildFromType,
            ("torch.storage", "UntypedStorage") => Class::Storage(Kind::Uint8),
            ("torch", name) => Class::Storage(ELEMENT_TYPES.iter().find(|entry| entry.1 == name)?.0),
            _ => return None,
        })
    }
}

impl<'a> Unpickler<'a> {
    /// `BinPersId`: replaces ("storage", class, key, device, length) by a storage. The device doesn't matter.
    ///
    /// Files before PyTorch 1.6 have a sixth item, None or a part of the storage, and ("module", class, file, source).
    pub fn load_storage(&mut self) -> Result<()> {
        use Value::{Int, Other, Str};
        let Value::Tuple(tuple) = self.pop()? else { return Err(damaged("a storage without a description")) };
        let (storage, part) = match self.tuples[tuple as usize][..] {
            [Str("module"), class @ Value::Class(_), _file, _source] => return self.push(class),
            // A storage of an unsupported type.
            [Str("storage"), Value::Class(Class::Unknown(class)), ..] => return self.push(Value::Object(class)),
            [Str("storage"), Value::Class(Class::Storage(kind)), Str(key), Str(_device), Int(len)] => {
                (Storage { kind, key, len }, None)
            }
            [Str("storage"), Value::Class(Class::Storage(kind)), Str(key), Str(_device), Int(len), part] => {
                (Storage { kind, key, len }, Some(part))
            }
            _ => return Err(damaged("a storage with an unknown description")),
        };
        let offset = match part {
            None | Some(Other("None")) => 0,
            Some(Value::Tuple(part)) => match self.tuples[part as usize][..] {
                [Str(_key), Int(offset), Int(len)]
                    if offset >= 0 && len >= 0 && offset.checked_add(len).is_some_and(|end| end <= storage.len) =>
                {
                    offset
                }
                _ => return Err(damaged("a part beyond its storage")),
            },
            Some(_) => return Err(damaged("a storage with an unknown description")),
        };
        self.storages.push((storage, offset));
        self.push(Value::Storage(self.storages.len() as u32 - 1))
    }

    /// `Reduce`: replaces a class or function and the tuple of its arguments by the value that the call returns.
    pub fn reduce(&mut self) -> Result<()> {
        let (Value::Tuple(tuple), function) = (self.pop()?, self.pop()?) else {
            return Err(damaged("a call of something that isn't a function"));
        };
        match function {
            Value::Class(class) => self.call(class, tuple),
            Value::Object(class) => self.push(Value::Object(class)),
            _ => Err(damaged("a call of something that isn't a function")),
        }
    }

    /// Pushes the value that `class` returns for a tuple of arguments.
    fn call(&mut self, class: Class, arguments: u32) -> Result<()> {
        match (class, &self.tuples[arguments as usize][..]) {
            (Class::Unknown(class), _) => self.push(Value::Object(class)),
            (Class::OrderedDict, []) | (Class::DefaultDict, [] | [_]) => self.push_dict(Vec::new()),
            // Python 2 gives the items, each as a list.
            (Class::OrderedDict, &[Value::List(items)]) => {
                let pairs = self.pairs(items)?;
                self.push_dict(pairs)
            }
            (
                Class::RebuildTensor,
                &[Value::Storage(storage), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), ref rest @ ..],
            ) if rest.is_empty() || rest.len() == 2 => {
                let (size, stride) = (self.integers(size)?, self.integers(stride)?);
                let (storage, start) = self.storages[storage as usize];
                let offset = offset.checked_add(start).ok_or_else(|| damaged("a view beyond its storage"))?;
                self.views.push(TensorView { storage, offset, size, stride });
                self.push(Value::View(self.views.len() as u32 - 1))
            }
            // A storage of an unsupported type is an object.
            (Class::RebuildTensor, &[unsupported @ Value::Object(_), ..]) => self.push(unsupported),
            (Class::RebuildParameter, &[tensor @ (Value::View(_) | Value::Object(_)), _grad, _hooks])
            | (Class::RebuildParameter, &[tensor @ (Value::View(_) | Value::Object(_)), _grad, _hooks, _]) => {
                self.push(tensor)
            }
            (
                Class::RebuildFromType,
                &[Value::Class(inner @ (Class::RebuildTensor | Class::Unknown(_))), _type, Value::Tuple(arguments), _],
            ) => self.call(inner, arguments),
            _ => Err(damaged("a call with unknown arguments")),
        }
    }

    /// `NewObj`: an empty dictionary, or an object whose content is dropped.
    pub fn new_object(&mut self, class: Value<'a>) -> Result<()> {
        match class {
            Value::Class(Class::OrderedDict | Class::DefaultDict) => self.push_dict(Vec::new()),
            Value::Class(Class::Unknown(class)) | Value::Object(class) => self.push(Value::Object(class)),
            _ => Err(damaged("a new object of something that isn't a class")),
        }
    }

    /// The keys and values of a list of lists or tuples of two.
    fn pairs(&mut self, list: u32) -> Result<Vec<(Value<'a>, Value<'a>)>> {
        let mut pairs = Vec::new();
        for item in &self.lists[list as usize] {
            let pair = match *item {
                Value::List(pair) => &self.lists[pair as usize][..],
                Value::Tuple(pair) => &self.tuples[pair as usize][..],
                _ => &[],
            };
            let &[key, value] = pair else { return Err(damaged("a call with unknown arguments")) };
            pairs.push((key, value));
        }
        // A program can repeat a long list at the cost of two bytes, so its items count again.
        (0..pairs.len()).try_for_each(|_| self.count())?;
        Ok(pairs)
    }

    /// A class or function in words, `module.name`.
    pub fn class_name(&self, class: u32) -> String {
        let (module, name) = self.classes[class as usize];
        format!("{}.{}", printable(module), printable(name))
    }

    /// Whether an object is a tensor or storage of a type that this crate doesn't have.
    pub fn is_unsupported_tensor(&self, object: u32) -> bool {
        match self.classes[object as usize] {
            ("torch._utils" | "torch._tensor", name) => name.starts_with("_rebuild_"),
            ("torch", name) => name.ends_with("Storage"),
            _ => false,
        }
    }
}
