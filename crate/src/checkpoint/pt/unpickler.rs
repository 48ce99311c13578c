//! A pickle virtual machine for the opcodes of a state dict. It executes no Python.
//!
//! A pickle is a program for a stack machine. A mark on the stack is where the items of a tuple, list or dictionary
//! begin; the memo is a list of values that the program refers to again. Tuples, dictionaries, storages and views refer
//! to each other by index, so cycles and deep nesting need no recursion. [`MAX_VALUES`] bounds their number.

use super::SAVE_STATE_DICT;
use super::opcode::Opcode;
use super::pickle::{Class, Storage, TensorView};
use crate::checkpoint::tensor::MAX_DIMENSIONS;
use crate::error::{Error, Result, ensure};

/// A program may create this many values (24 bytes each). PyTorch needs about 40 for a tensor.
const MAX_VALUES: usize = 1 << 18;

/// A value on the stack. Tuples, dictionaries, storages and views are indices into the fields of [`Unpickler`].
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Str(&'a str),
    Class(Class),
    Tuple(u32),
    Dict(u32),
    Storage(u32),
    View(u32),
    List,
    /// A value whose content doesn't matter here: its type in words.
    Other(&'static str),
}

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
    pub tuples: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub views: Vec<TensorView<'a>>,
}

impl<'a> Unpickler<'a> {
    pub fn new(pickle: &'a [u8]) -> Self {
        Unpickler { pickle, ..Unpickler::default() }
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
                    let problem = format!("contains {opcode}, which a state dict doesn't use; {SAVE_STATE_DICT}");
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
        let (int, text) = self.argument(opcode)?;
        match opcode {
            Opcode::Proto | Opcode::Frame | Opcode::Stop => Ok(()),
            Opcode::Mark => self.count().map(|()| self.below_marks.push(std::mem::take(&mut self.stack))),
            Opcode::Pop => self.pop().map(drop),
            Opcode::PopMark => self.pop_to_mark().map(drop),
            Opcode::Dup => self.push(self.top()?),
            Opcode::None => self.push(Value::Other("None")),
            Opcode::NewTrue | Opcode::NewFalse => self.push(Value::Other("a truth value")),
            Opcode::BinInt1 | Opcode::BinInt2 | Opcode::BinInt | Opcode::Long1 => self.push(Value::Int(int)),
            Opcode::BinFloat => self.push(Value::Other("a number")),
            Opcode::ShortBinString | Opcode::ShortBinUnicode | Opcode::BinUnicode | Opcode::BinUnicode8 => {
                self.push(Value::Str(text))
            }
            Opcode::EmptyTuple => self.push_tuple(Vec::new()),
            Opcode::Tuple => self.pop_to_mark().and_then(|items| self.push_tuple(items)),
            Opcode::Tuple1 | Opcode::Tuple2 | Opcode::Tuple3 => {
                let count = 1 + opcode as usize - Opcode::Tuple1 as usize;
                self.pop_many(count).and_then(|items| self.push_tuple(items))
            }
            Opcode::EmptyList => self.push(Value::List),
            Opcode::Append => self.pop().and_then(|_| self.expect_list()),
            Opcode::Appends => self.pop_to_mark().and_then(|_| self.expect_list()),
            Opcode::EmptyDict => self.push_dict(),
            Opcode::SetItem => self.pop_many(2).and_then(|pair| self.set_items(&pair)),
            Opcode::SetItems => self.pop_to_mark().and_then(|pairs| self.set_items(&pairs)),
            Opcode::BinPut | Opcode::LongBinPut => self.put(int as usize),
            Opcode::Memoize => self.put(self.memo.len()),
            Opcode::BinGet | Opcode::LongBinGet => match self.memo.get(int as usize) {
                Some(&value) => self.push(value),
                None => Err(damaged("a reference to a value that doesn't exist")),
            },
            Opcode::Global => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Class(Class::named(module, name)?))
            }
            Opcode::StackGlobal => match self.pop_many(2)?[..] {
                [Value::Str(module), Value::Str(name)] => self.push(Value::Class(Class::named(module, name)?)),
                _ => Err(damaged("a class without a name")),
            },
            Opcode::BinPersId => self.load_storage(),
            Opcode::Reduce => self.reduce(),
            // The attributes of an OrderedDict: `_metadata`, the versions of the modules.
            Opcode::Build => match (self.pop()?, self.top()?) {
                (_, Value::Dict(_)) => Ok(()),
                _ => Err(damaged("attributes on something that has none")),
            },
        }
    }

    /// Reads the argument that follows an opcode, a number or a text, except for the two lines of [`Opcode::Global`].
    fn argument(&mut self, opcode: Opcode) -> Result<(i64, &'a str)> {
        let int = match opcode {
            Opcode::Proto | Opcode::BinInt1 | Opcode::BinPut | Opcode::BinGet => self.byte()?.into(),
            Opcode::BinInt2 => u16::from_le_bytes(self.array()?).into(),
            Opcode::BinInt => i32::from_le_bytes(self.array()?).into(),
            Opcode::LongBinPut | Opcode::LongBinGet => u32::from_le_bytes(self.array()?).into(),
            Opcode::Long1 => self.byte().and_then(|len| self.bytes(len.into())).and_then(long)?,
            Opcode::Frame | Opcode::BinFloat => self.bytes(8).map(|_| 0)?,
            _ => 0,
        };
        let text_len = match opcode {
            Opcode::ShortBinString | Opcode::ShortBinUnicode => self.byte()?.into(),
            Opcode::BinUnicode => u32::from_le_bytes(self.array()?).into(),
            Opcode::BinUnicode8 => u64::from_le_bytes(self.array()?),
            _ => 0,
        };
        Ok((int, utf8(self.bytes(text_len)?)?))
    }

    /// Counts one more value, up to the limit.
    fn count(&mut self) -> Result<()> {
        self.created += 1;
        ensure!(self.created <= MAX_VALUES, "has a pickle of more than {MAX_VALUES} values, which isn't a state dict");
        Ok(())
    }

    /// The next `len` bytes of the program.
    fn bytes(&mut self, len: u64) -> Result<&'a [u8]> {
        let rest = &self.pickle[self.position..];
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

    pub fn push_dict(&mut self) -> Result<()> {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() as u32 - 1))
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

    /// Checks that the topmost value is a list. Its items are dropped: a state dict has none that matter.
    fn expect_list(&self) -> Result<()> {
        let Value::List = self.top()? else { return Err(damaged("an item for something that isn't a list")) };
        Ok(())
    }

    /// Adds alternating keys and values to the dictionary on top of the stack.
    fn set_items(&mut self, pairs: &[Value<'a>]) -> Result<()> {
        let Value::Dict(dict) = self.top()? else {
            return Err(damaged("an entry for something that isn't a dictionary"));
        };
        let (pairs, []) = pairs.as_chunks::<2>() else { return Err(damaged("a key without a value")) };
        self.dicts[dict as usize].extend(pairs.iter().map(|&[key, value]| (key, value)));
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

/// The argument of [`Opcode::Long1`]: two's complement of up to eight bytes, little-endian.
fn long(bytes: &[u8]) -> Result<i64> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value.get_mut(..bytes.len()).ok_or_else(|| damaged("an integer of more than 64 bits"))?.copy_from_slice(bytes);
    Ok(i64::from_le_bytes(value))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged("text that isn't UTF-8"))
}

pub(super) fn damaged(cause: &str) -> Error {
    Error::argument(format!("has a damaged pickle ({cause}); copy or save it again"))
}
