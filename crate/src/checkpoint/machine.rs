//! The stack machine that runs a pickle: its values, stack, memo and the bytes of the program.
//!
//! Values live in flat arrays and refer to each other by index, so that cycles and deep nesting need no recursion;
//! their number is bounded.

use tch::Kind;

/// A storage as the pickle describes it: the file `data/KEY` of the archive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub kind: Kind,
    pub key: &'a str,
    /// Number of elements.
    pub len: i64,
}

/// A view of a storage; offset and strides are in elements.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// Instructions together may create this many values (24 bytes each). PyTorch needs about 40 for a tensor.
const MAX_VALUES: usize = 1 << 18;

pub(super) const SAVE_WEIGHTS: &str = "in Python, save just the weights: torch.save(model.state_dict(), \"model.pt\")";

/// The classes a state dict refers to.
#[derive(Clone, Copy)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Str(&'a str),
    Class(Class),
    /// Items `start..start + len` of `Machine::items`.
    Tuple(u32, u32),
    /// Index into `Machine::dicts`.
    Dict(u32),
    /// Index into `Machine::storages`.
    Storage(u32),
    /// Index into `Machine::views`.
    View(u32),
    /// Something whose content doesn't matter here, in words.
    Other(&'static str),
}

#[derive(Default)]
pub(super) struct Machine<'a> {
    pickle: &'a [u8],
    pub position: usize,
    /// Values created so far.
    created: usize,
    pub stack: Vec<Value<'a>>,
    /// Stack heights at the open marks.
    pub marks: Vec<usize>,
    pub memo: Vec<Value<'a>>,
    items: Vec<Value<'a>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub views: Vec<View<'a>>,
}

impl<'a> Machine<'a> {
    pub fn new(pickle: &'a [u8]) -> Self {
        Machine { pickle, ..Machine::default() }
    }

    /// Takes note of one more value, within the limit.
    pub fn count(&mut self) -> Result<(), String> {
        self.created += 1;
        if self.created > MAX_VALUES {
            return Err(format!("has a pickle of more than {MAX_VALUES} values, which isn't a state dict"));
        }
        Ok(())
    }

    /// The next `len` bytes of the program.
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let rest = &self.pickle[self.position..];
        if len > rest.len() as u64 {
            return Err("has a pickle that ends in the middle; copy or save it again".to_string());
        }
        self.position += len as usize;
        Ok(&rest[..len as usize])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N as u64)?.try_into().expect("N bytes"))
    }

    pub fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    pub fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.pickle[self.position..];
        let len = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(len.map_or(u64::MAX, |len| len as u64 + 1))?;
        text(&line[..line.len() - 1])
    }

    pub fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    pub fn push_text(&mut self, len: u64) -> Result<(), String> {
        let text = text(self.take(len)?)?;
        self.push(Value::Str(text))
    }

    pub fn push_tuple(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        let start = self.items.len() as u32;
        self.items.extend(&items);
        self.push(Value::Tuple(start, items.len() as u32))
    }

    pub fn push_dict(&mut self) -> Result<(), String> {
        let index = self.dicts.len() as u32;
        self.dicts.push(Vec::new());
        self.push(Value::Dict(index))
    }

    /// The top of the stack, not below the last mark.
    pub fn top(&self) -> Result<Value<'a>, String> {
        self.stack
            .last()
            .filter(|_| Some(&self.stack.len()) != self.marks.last())
            .copied()
            .ok_or_else(|| damaged("an instruction without its values"))
    }

    pub fn pop(&mut self) -> Result<Value<'a>, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() < floor + count {
            return Err(damaged("an instruction without its values"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    pub fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or_else(|| damaged("an instruction without its mark"))?;
        Ok(self.stack.split_off(mark))
    }

    pub fn expect_list(&self) -> Result<(), String> {
        match self.top()? {
            Value::Other("a list") => Ok(()),
            _ => Err(damaged("an item for something that isn't a list")),
        }
    }

    /// Keys and values in turn, for the dictionary on top of the stack.
    pub fn set_items(&mut self, pairs: Vec<Value<'a>>) -> Result<(), String> {
        let Value::Dict(dict) = self.top()? else {
            return Err(damaged("an entry for something that isn't a dictionary"));
        };
        if !pairs.len().is_multiple_of(2) {
            return Err(damaged("a key without a value"));
        }
        self.dicts[dict as usize].extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    /// Remembers the top of the stack. Python numbers the memo from 0 without gaps.
    pub fn put(&mut self, index: usize) -> Result<(), String> {
        let top = self.top()?;
        if index < self.memo.len() {
            self.memo[index] = top;
        } else if index == self.memo.len() {
            self.count()?;
            self.memo.push(top);
        } else {
            return Err(damaged("a gap in its memo"));
        }
        Ok(())
    }

    pub fn get(&mut self, index: usize) -> Result<(), String> {
        let value = *self.memo.get(index).ok_or_else(|| damaged("a reference to a value that doesn't exist"))?;
        self.push(value)
    }

    pub fn tuple(&self, start: u32, len: u32) -> &[Value<'a>] {
        &self.items[start as usize..][..len as usize]
    }

    pub fn integers(&self, start: u32, len: u32) -> Result<Vec<i64>, String> {
        // A shape can't be long; a program could repeat a long tuple at the cost of two bytes.
        if len > 64 {
            return Err(format!("has a tensor of {len} dimensions"));
        }
        self.tuple(start, len)
            .iter()
            .map(|item| match item {
                Value::Int(value) => Ok(*value),
                _ => Err(damaged("a shape that isn't made of integers")),
            })
            .collect()
    }
}

/// The class `module.name`, if a state dict may refer to it.
pub(super) fn class(module: &str, name: &str) -> Result<Class, String> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Class::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Class::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Class::RebuildParameter,
        ("torch", "DoubleStorage") => Class::Storage(Kind::Double),
        ("torch", "FloatStorage") => Class::Storage(Kind::Float),
        ("torch", "HalfStorage") => Class::Storage(Kind::Half),
        ("torch", "BFloat16Storage") => Class::Storage(Kind::BFloat16),
        ("torch", "LongStorage") => Class::Storage(Kind::Int64),
        ("torch", "IntStorage") => Class::Storage(Kind::Int),
        ("torch", "ShortStorage") => Class::Storage(Kind::Int16),
        ("torch", "CharStorage") => Class::Storage(Kind::Int8),
        ("torch", "ByteStorage") | ("torch.storage", "UntypedStorage") => Class::Storage(Kind::Uint8),
        ("torch", "BoolStorage") => Class::Storage(Kind::Bool),
        _ => {
            let class = format!("{}.{}", short(module), short(name));
            let is_tensor =
                class.starts_with("torch._utils._rebuild_") || (module == "torch" && name.ends_with("Storage"));
            return Err(if is_tensor {
                format!(
                    "holds a tensor of a kind that isn't read here ({class}); in Python, make it a dense float32 \
                     tensor"
                )
            } else {
                format!(
                    "refers to the Python class {class}, which is no part of a state dict (nothing was executed); \
                     {SAVE_WEIGHTS}"
                )
            });
        }
    })
}

/// LONG1: two's complement of up to eight bytes.
pub(super) fn little_endian(bytes: &[u8]) -> Result<i64, String> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value.get_mut(..bytes.len()).ok_or_else(|| damaged("an integer of more than 64 bits"))?.copy_from_slice(bytes);
    Ok(i64::from_le_bytes(value))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| damaged("text that isn't UTF-8"))
}

pub(super) fn damaged(what: &str) -> String {
    format!("has a damaged pickle ({what}); copy or save it again")
}

/// A name for a message: printable, and not longer than a line.
pub(super) fn short(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}
