//! A pickle virtual machine for PyTorch's files. It executes no Python.
//!
//! A pickle is a program for a stack machine. A mark on the stack is where the items of a tuple, list or dictionary
//! begin; the memo is a list of values that the program refers to again. Tuples, lists, dictionaries, storages and views
//! refer to each other by index, so cycles and deep nesting need no recursion. [`MAX_VALUES`] bounds their number. An
//! instance of a class that isn't in [`Class`] is a [`Value::Object`]: its content is dropped, and nothing is called.

use super::SAVE_STATE_DICT;
use super::opcode::Opcode;
use super::pickle::{Class, Storage, TensorView};
use crate::checkpoint::tensor::MAX_DIMENSIONS;
use crate::error::{Error, Result, ensure};

/// A program may create this many values (24 bytes each). PyTorch needs about 40 for a tensor.
const MAX_VALUES: usize = 1 << 18;

/// A value on the stack. An index refers to the field of [`Unpickler`] of that kind.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Str(&'a str),
    Class(Class),
    Tuple(u32),
    Dict(u32),
    Storage(u32),
    View(u32),
    List(u32),
    /// An instance of the unknown class of that index, or what an unknown function would return.
    Object(u32),
    /// A value whose content doesn't matter here: its type in words.
    Other(&'static str),
}

/// A Python set, whose items are dropped.
const SET: Value = Value::Other("a set");

#[derive(Default)]
pub(super) struct Unpickler<'a> {
    pickle: &'a [u8],
    position: usize,
    /// Values created so far.
    created: usize,
    /// The values above the last mark.
    stack: Vec<Value<'a>>,
    /// The values between earlier marks.
    below_marks: Vec<Vec<Value<'a>>>,
    memo: Vec<Value<'a>>,
    /// Whether the program went on beyond its last byte.
    pub ended_early: bool,
    /// Module and name of each unknown class or function.
    pub classes: Vec<(&'a str, &'a str)>,
    pub tuples: Vec<Vec<Value<'a>>>,
    pub lists: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Each with the offset of its part.
    pub storages: Vec<(Storage<'a>, i64)>,
    pub views: Vec<TensorView<'a>>,
}

impl<'a> Unpickler<'a> {
    pub fn new(pickle: &'a [u8]) -> Self {
        Unpickler { pickle, ..Unpickler::default() }
    }

    /// Number of bytes that have been run.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Runs the program and returns the one value that it leaves on the stack.
    pub fn run(&mut self) -> Result<Value<'a>> {
        loop {
            let (start, byte) = (self.position, self.byte()?);
            match Opcode::from_byte(byte) {
                Some(Opcode::Stop) => break,
                Some(opcode) => self.execute(opcode)?,
                None => {
                    let opcode = format!("the pickle opcode 0x{byte:02x} (at byte {start})");
                    let problem = format!("contains {opcode}, which PyTorch doesn't write; {SAVE_STATE_DICT}");
                    return Err(Error::argument(problem));
                }
            }
        }
        let value = self.pop()?;
        let last = self.stack.is_empty() && self.below_marks.iter().all(Vec::is_empty);
        ensure!(last, "has a pickle that leaves more than one value");
        Ok(value)
    }

    fn execute(&mut self, opcode: Opcode) -> Result<()> {
        let (int, bytes) = self.argument(opcode)?;
        match opcode {
            Opcode::Proto | Opcode::Frame | Opcode::Stop => Ok(()),
            Opcode::Mark => self.count().map(|()| self.below_marks.push(std::mem::take(&mut self.stack))),
            Opcode::Pop => self.pop().map(drop),
            Opcode::PopMark => self.pop_to_mark().map(drop),
            Opcode::Dup => self.push(self.top()?),
            Opcode::None => self.push(Value::Other("None")),
            Opcode::NewTrue | Opcode::NewFalse => self.push(Value::Other("a truth value")),
            Opcode::BinInt1 | Opcode::BinInt2 | Opcode::BinInt => self.push(Value::Int(int)),
            Opcode::Long1 | Opcode::Long4 => self.push(long(bytes)),
            Opcode::BinFloat => self.push(Value::Other("a number")),
            Opcode::ShortBinUnicode | Opcode::BinUnicode | Opcode::BinUnicode8 => self.push(Value::Str(utf8(bytes)?)),
            // Texts of Python 2, which hold any bytes.
            Opcode::ShortBinString | Opcode::BinString => {
                self.push(std::str::from_utf8(bytes).map_or(Value::Other("bytes"), Value::Str))
            }
            Opcode::ShortBinBytes | Opcode::BinBytes | Opcode::BinBytes8 | Opcode::ByteArray8 => {
                self.push(Value::Other("bytes"))
            }
            Opcode::EmptyTuple => self.push_tuple(Vec::new()),
            Opcode::Tuple => self.pop_to_mark().and_then(|items| self.push_tuple(items)),
            Opcode::Tuple1 | Opcode::Tuple2 | Opcode::Tuple3 => {
                let count = 1 + opcode as usize - Opcode::Tuple1 as usize;
                self.pop_many(count).and_then(|items| self.push_tuple(items))
            }
            Opcode::EmptyList => self.push_list(),
            Opcode::Append => self.pop().and_then(|item| self.extend_list(&[item])),
            Opcode::Appends => self.pop_to_mark().and_then(|items| self.extend_list(&items)),
            Opcode::EmptyDict => self.push_dict(Vec::new()),
            Opcode::SetItem => self.pop_many(2).and_then(|pair| self.set_items(&pair)),
            Opcode::SetItems => self.pop_to_mark().and_then(|pairs| self.set_items(&pairs)),
            Opcode::EmptySet => self.push(SET),
            Opcode::AddItems => self.pop_to_mark().and_then(|_| self.top()).map(drop),
            Opcode::FrozenSet => self.pop_to_mark().and_then(|_| self.push(SET)),
            Opcode::BinPut | Opcode::LongBinPut => self.put(int as usize),
            Opcode::Memoize => self.put(self.memo.len()),
            Opcode::BinGet | Opcode::LongBinGet => match self.memo.get(int as usize) {
                Some(&value) => self.push(value),
                None => Err(damaged("a reference to a value that doesn't exist")),
            },
            Opcode::Global => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_class(module, name)
            }
            Opcode::StackGlobal => match self.pop_many(2)?[..] {
                [Value::Str(module), Value::Str(name)] => self.push_class(module, name),
                _ => Err(damaged("a class without a name")),
            },
            Opcode::BinPersId => self.load_storage(),
            Opcode::Reduce => self.reduce(),
            Opcode::NewObj => self.pop_many(2).and_then(|parts| self.new_object(parts[0])),
            Opcode::NewObjEx => self.pop_many(3).and_then(|parts| self.new_object(parts[0])),
            // The attributes of an object, or of an OrderedDict: `_metadata`, the versions of the modules.
            Opcode::Build => match (self.pop()?, self.top()?) {
                (_, Value::Dict(_) | Value::Object(_)) => Ok(()),
                _ => Err(damaged("attributes on something that has none")),
            },
        }
    }

    /// Reads the argument that follows an opcode, a number or bytes, except for the two lines of [`Opcode::Global`].
    fn argument(&mut self, opcode: Opcode) -> Result<(i64, &'a [u8])> {
        let int = match opcode {
            Opcode::Proto | Opcode::BinInt1 | Opcode::BinPut | Opcode::BinGet => self.byte()?.into(),
            Opcode::BinInt2 => u16::from_le_bytes(self.array()?).into(),
            Opcode::BinInt => i32::from_le_bytes(self.array()?).into(),
            Opcode::LongBinPut | Opcode::LongBinGet => u32::from_le_bytes(self.array()?).into(),
            Opcode::Frame | Opcode::BinFloat => self.bytes(8).map(|_| 0)?,
            _ => 0,
        };
        let len = match opcode {
            Opcode::ShortBinString | Opcode::ShortBinUnicode | Opcode::ShortBinBytes | Opcode::Long1 => {
                self.byte()?.into()
            }
            Opcode::BinString | Opcode::BinUnicode | Opcode::BinBytes | Opcode::Long4 => {
                u32::from_le_bytes(self.array()?).into()
            }
            Opcode::BinUnicode8 | Opcode::BinBytes8 | Opcode::ByteArray8 => u64::from_le_bytes(self.array()?),
            _ => 0,
        };
        Ok((int, self.bytes(len)?))
    }

    /// Counts one more value, up to the limit.
    pub fn count(&mut self) -> Result<()> {
        self.created += 1;
        ensure!(self.created <= MAX_VALUES, "has a pickle of more than {MAX_VALUES} values, which isn't a state dict");
        Ok(())
    }

    /// The next `len` bytes of the program.
    fn bytes(&mut self, len: u64) -> Result<&'a [u8]> {
        let rest = &self.pickle[self.position..];
        self.ended_early |= len > rest.len() as u64;
        ensure!(len <= rest.len() as u64, "has a pickle that ends in the middle; copy or save it again");
        self.position += len as usize;
        Ok(&rest[..len as usize])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N as u64)?.try_into().expect("N bytes"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The text up to the next line feed.
    fn line(&mut self) -> Result<&'a str> {
        let len = self.pickle[self.position..].iter().position(|&byte| byte == b'\n');
        let line = self.bytes(len.map_or(u64::MAX, |len| len as u64 + 1))?;
        utf8(&line[..line.len() - 1])
    }

    pub fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() as u32 - 1))
    }

    pub fn push_dict(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Result<()> {
        self.dicts.push(entries);
        self.push(Value::Dict(self.dicts.len() as u32 - 1))
    }

    fn push_list(&mut self) -> Result<()> {
        self.lists.push(Vec::new());
        self.push(Value::List(self.lists.len() as u32 - 1))
    }

    fn push_class(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        let class = Class::named(module, name).unwrap_or_else(|| {
            self.classes.push((module, name));
            Class::Unknown(self.classes.len() as u32 - 1)
        });
        self.push(Value::Class(class))
    }

    fn top(&self) -> Result<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| damaged("an opcode without its values"))
    }

    pub fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(|| damaged("an opcode without its values"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>> {
        let start = self.stack.len().checked_sub(count).ok_or_else(|| damaged("an opcode without its values"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let below = self.below_marks.pop().ok_or_else(|| damaged("an opcode without its mark"))?;
        Ok(std::mem::replace(&mut self.stack, below))
    }

    /// Adds items to the list on top of the stack.
    fn extend_list(&mut self, items: &[Value<'a>]) -> Result<()> {
        // An item takes more than its value, since the list's memory grows in steps.
        self.count()?;
        match self.top()? {
            Value::List(list) => self.lists[list as usize].extend(items),
            Value::Object(_) => {}
            _ => return Err(damaged("an item for something that isn't a list")),
        }
        Ok(())
    }

    /// Adds alternating keys and values to the dictionary on top of the stack.
    fn set_items(&mut self, pairs: &[Value<'a>]) -> Result<()> {
        let (pairs, []) = pairs.as_chunks::<2>() else { return Err(damaged("a key without a value")) };
        match self.top()? {
            Value::Dict(dict) => self.dicts[dict as usize].extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Object(_) => {}
            _ => return Err(damaged("an entry for something that isn't a dictionary")),
        }
        Ok(())
    }

    /// Stores the topmost value in the memo. Python numbers the memo from 0 without gaps.
    fn put(&mut self, index: usize) -> Result<()> {
        let top = self.top()?;
        if index == self.memo.len() {
            self.count()?;
            self.memo.push(top);
        }
        *self.memo.get_mut(index).ok_or_else(|| damaged("a gap in its memo"))? = top;
        Ok(())
    }

    /// The items of a tuple of integers: a shape or strides.
    pub fn integers(&self, tuple: u32) -> Result<Vec<i64>> {
        let items = &self.tuples[tuple as usize];
        // A program can repeat a long tuple at the cost of two bytes, so the length is bounded before the copy.
        ensure!(items.len() <= MAX_DIMENSIONS, "has a tensor of {} dimensions", items.len());
        let integer = |item: &Value| match item {
            Value::Int(value) => Ok(*value),
            _ => Err(damaged("a shape that isn't made of integers")),
        };
        items.iter().map(integer).collect()
    }
}

/// An integer in two's complement, little-endian. One of more than eight bytes is only a number.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    let Some(low) = value.get_mut(..bytes.len()) else { return Value::Other("a number") };
    low.copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged("text that isn't UTF-8"))
}

pub(super) fn damaged(cause: &str) -> Error {
    Error::argument(format!("has a damaged pickle ({cause}); copy or save it again"))
}
