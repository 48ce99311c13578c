//! The pickle inside a PyTorch file, read without executing anything.
//!
//! A pickle is a program for a small stack machine (Python's `pickletools` documents the instructions). `torch.save`
//! uses some thirty of them to describe a state dict: an ordered dictionary from names to tensors, each a view of a
//! numbered storage. Those instructions and the classes they refer to are known here; any other is an error that
//! names it.

use super::machine::{Class, Machine, SAVE_WEIGHTS, Storage, Value, View, class, damaged, little_endian, short};

/// The tensors of a pickled state dict in their order. What is wrong otherwise is a phrase for the user.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<(&str, View<'_>)>, String> {
    let mut machine = Machine::new(pickle);
    let Value::Dict(dict) = machine.run()? else {
        return Err(format!("doesn't hold a dictionary of tensors; {SAVE_WEIGHTS}"));
    };
    let entries = &machine.dicts[dict as usize];
    entries
        .iter()
        .map(|entry| match *entry {
            (Value::Str(name), Value::View(view)) => Ok((name, machine.views[view as usize].clone())),
            _ => Err(machine.not_a_state_dict(entries)),
        })
        .collect()
}

impl<'a> Machine<'a> {
    /// Runs the program; its last instruction leaves one value.
    fn run(&mut self) -> Result<Value<'a>, String> {
        loop {
            let start = self.position;
            let instruction = self.byte()?;
            match instruction {
                // PROTO, FRAME: nothing that matters here.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => {
                    let value = self.pop()?;
                    return if self.stack.is_empty() {
                        Ok(value)
                    } else {
                        Err("has a pickle that leaves more than one value".to_string())
                    };
                }
                b'(' => {
                    self.count()?;
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'N' => self.push(Value::Other("None"))?,
                0x88 | 0x89 => self.push(Value::Other("a truth value"))?,
                b'K' => {
                    let value = self.byte()?;
                    self.push(Value::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a => {
                    let len = self.byte()?;
                    let value = little_endian(self.take(len.into())?)?;
                    self.push(Value::Int(value))?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other("a number"))?;
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.array()?);
                    self.push_text(len.into())?;
                }
                // SHORT_BINSTRING of Python 2, SHORT_BINUNICODE, BINUNICODE8.
                b'U' | 0x8c => {
                    let len = self.byte()?;
                    self.push_text(len.into())?;
                }
                0x8d => {
                    let len = u64::from_le_bytes(self.array()?);
                    self.push_text(len)?;
                }
                b')' => self.push(Value::Tuple(0, 0))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push_tuple(items)?;
                }
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(instruction - 0x84))?;
                    self.push_tuple(items)?;
                }
                b']' => self.push(Value::Other("a list"))?,
                b'a' => {
                    self.pop()?;
                    self.expect_list()?;
                }
                b'e' => {
                    self.pop_to_mark()?;
                    self.expect_list()?;
                }
                b'}' => self.push_dict()?,
                b's' => {
                    let pair = self.pop_many(2)?;
                    self.set_items(pair)?;
                }
                b'u' => {
                    let pairs = self.pop_to_mark()?;
                    self.set_items(pairs)?;
                }
                b'q' => {
                    let index = self.byte()?;
                    self.put(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.put(index as usize)?;
                }
                0x94 => self.put(self.memo.len())?,
                b'h' => {
                    let index = self.byte()?;
                    self.get(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.get(index as usize)?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.push(Value::Class(class(module, name)?))?;
                }
                0x93 => {
                    let names = self.pop_many(2)?;
                    let [Value::Str(module), Value::Str(name)] = names[..] else {
                        return Err(damaged("a class without a name"));
                    };
                    self.push(Value::Class(class(module, name)?))?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.call()?,
                b'b' => {
                    // The attributes of an OrderedDict: `_metadata`, the versions of the modules.
                    self.pop()?;
                    if !matches!(self.top()?, Value::Dict(_)) {
                        return Err(damaged("attributes on something that has none"));
                    }
                }
                other => {
                    return Err(format!(
                        "contains the pickle instruction 0x{other:02x} (at byte {start}), which a state dict \
                         doesn't use; {SAVE_WEIGHTS}"
                    ));
                }
            }
        }
    }

    /// BINPERSID: ("storage", class, key, device, length) -> a storage. The device doesn't matter.
    fn persistent(&mut self) -> Result<(), String> {
        let Value::Tuple(start, len) = self.pop()? else {
            return Err(damaged("a storage without a description"));
        };
        let [
            Value::Str("storage"),
            Value::Class(Class::Storage(kind)),
            Value::Str(key),
            Value::Str(_),
            Value::Int(len),
        ] = *self.tuple(start, len)
        else {
            return Err(damaged("a storage with an unknown description"));
        };
        let index = self.storages.len() as u32;
        self.storages.push(Storage { kind, key, len });
        self.push(Value::Storage(index))
    }

    /// REDUCE: a call of one of the known classes.
    fn call(&mut self) -> Result<(), String> {
        let (Value::Tuple(start, len), Value::Class(class)) = (self.pop()?, self.pop()?) else {
            return Err(damaged("a call of something that isn't a function"));
        };
        match (class, self.tuple(start, len)) {
            (Class::OrderedDict, []) => self.push_dict(),
            (
                Class::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(size, dimensions),
                    Value::Tuple(stride, strides),
                    _requires_grad,
                    _hooks,
                ],
            ) => {
                let view = View {
                    storage: self.storages[storage as usize],
                    offset,
                    size: self.integers(size, dimensions)?,
                    stride: self.integers(stride, strides)?,
                };
                let index = self.views.len() as u32;
                self.views.push(view);
                self.push(Value::View(index))
            }
            (Class::RebuildParameter, &[view @ Value::View(_), _requires_grad, _hooks]) => self.push(view),
            _ => Err(damaged("a call with unknown arguments")),
        }
    }

    fn not_a_state_dict(&self, entries: &[(Value, Value)]) -> String {
        let mut nested = None;
        let keys = entries.iter().map(|&(key, value)| {
            let key = match key {
                Value::Str(key) => format!("\"{}\"", short(key)),
                Value::Int(key) => key.to_string(),
                _ => "another key".to_string(),
            };
            let kind = match value {
                Value::View(_) => "a tensor",
                Value::Dict(dict) => {
                    let inner = &self.dicts[dict as usize];
                    if !inner.is_empty() && inner.iter().all(|e| matches!(e.1, Value::View(_))) {
                        nested = nested.take().or(Some(key.clone()));
                        "a dictionary of tensors"
                    } else {
                        "a dictionary"
                    }
                }
                Value::Int(_) => "a number",
                Value::Str(_) => "text",
                Value::Tuple(..) => "a tuple",
                Value::Other(kind) => kind,
                Value::Class(_) | Value::Storage(_) => "an object",
            };
            format!("{key} ({kind})")
        });
        let shown = keys.take(20).collect::<Vec<_>>().join(", ");
        let more = if entries.len() > 20 { ", …" } else { "" };
        let advice = match nested {
            Some(key) => format!("in Python, save just its entry {key}"),
            None => SAVE_WEIGHTS.to_string(),
        };
        format!("is a checkpoint with more than named tensors in it: {shown}{more}; {advice}")
    }
}
