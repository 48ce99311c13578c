//! The dictionary of tensors in a pickle: the only one, or the one that the user names.

use std::collections::HashSet;
use std::fmt::Write;

use tch::Kind;

use super::SAVE_STATE_DICT;
use super::pickle::{Class, TensorView};
use super::unpickler::{Unpickler, Value};
use crate::checkpoint::{printable, sub_tree};
use crate::error::{Error, Result};

/// Dictionaries are searched to this depth: `ema.module` is at depth 2.
const MAX_DEPTH: usize = 4;

/// A message lists this many entries.
const SHOWN: usize = 8;

/// The tensors of a dictionary, and sentences about the choice.
#[derive(Default)]
pub(super) struct Chosen<'a> {
    pub views: Vec<(String, TensorView<'a>)>,
    pub notices: Vec<String>,
}

/// Takes the tensors of the dictionary `entry`, a dotted path, or of the only dictionary of tensors in `root`.
pub(super) fn choose<'a>(unpickler: &Unpickler<'a>, root: Value<'a>, entry: Option<&str>) -> Result<Chosen<'a>> {
    let Value::Dict(root) = root else {
        let what = match root {
            Value::Object(class) => format!("holds {}, and no dictionary of tensors", unpickler.object(class)),
            _ => "doesn't hold a dictionary of tensors".to_string(),
        };
        return Err(Error::argument(format!("{what}; {SAVE_STATE_DICT}")));
    };
    let nodes = Nodes::find(unpickler, root);
    match entry {
        Some(entry) => nodes.named(root, entry),
        None => nodes.only(root),
    }
}

/// A dictionary that keys lead to.
struct Node<'a> {
    dict: u32,
    key: &'a str,
    /// Index of the node that has the key; the root's is its own.
    parent: usize,
    depth: usize,
    tensors: usize,
    /// Tensors that can be weights. A state of a random generator is a tensor of bytes.
    floats: usize,
}

/// The dictionaries of a pickle that text keys lead to, the root first.
struct Nodes<'p, 'a> {
    unpickler: &'p Unpickler<'a>,
    nodes: Vec<Node<'a>>,
}

impl<'p, 'a> Nodes<'p, 'a> {
    fn find(unpickler: &'p Unpickler<'a>, root: u32) -> Self {
        let mut nodes = vec![Node { dict: root, key: "", parent: 0, depth: 0, tensors: 0, floats: 0 }];
        let mut seen = HashSet::from([root]);
        let mut index = 0;
        while index < nodes.len() {
            let (dict, depth) = (nodes[index].dict, nodes[index].depth);
            for &(key, value) in &unpickler.dicts[dict as usize] {
                let Value::Str(key) = key else { continue };
                if let Value::Dict(dict) = value
                    && depth < MAX_DEPTH
                    && seen.insert(dict)
                {
                    nodes.push(Node { dict, key, parent: index, depth: depth + 1, tensors: 0, floats: 0 });
                }
                nodes[index].tensors += usize::from(unpickler.is_tensor(value));
                nodes[index].floats += usize::from(unpickler.is_float(value));
            }
            index += 1;
        }
        Nodes { unpickler, nodes }
    }

    /// The tensors of the root, if it has no others, or of the one dictionary of tensors in it.
    fn only(&self, root: u32) -> Result<Chosen<'a>> {
        let entries = &self.unpickler.dicts[root as usize];
        let is_plain = |&(key, value): &(Value, Value)| matches!((key, value), (Value::Str(_), Value::View(_)));
        if entries.iter().all(is_plain) {
            return self.unpickler.tensors(root, None);
        }
        let with = |count: fn(&Node) -> usize| {
            let nodes = self.nodes.iter().enumerate();
            nodes.filter(|(_, node)| count(node) > 0).map(|(index, _)| index).collect::<Vec<usize>>()
        };
        let weights = with(|node| node.floats);
        let candidates = if weights.is_empty() { with(|node| node.tensors) } else { weights };
        match candidates[..] {
            [0] => self.unpickler.tensors(root, None),
            [index] => {
                let mut chosen = self.unpickler.tensors(self.nodes[index].dict, None)?;
                let (count, path) = (chosen.views.len(), self.path(index));
                let inner = self.ancestor(index);
                let others = entries.iter().filter(|(_, value)| !matches!(value, Value::Dict(dict) if *dict == inner));
                let skipped = self.unpickler.listed(others);
                let skips = if skipped.is_empty() { String::new() } else { format!(" and skips {skipped}") };
                chosen.notices.insert(0, format!("uses the {count} tensors of its entry \"{path}\"{skips}"));
                Ok(chosen)
            }
            [] => {
                let list = self.unpickler.listed(entries.iter());
                Err(Error::argument(format!("holds no dictionary of tensors, but {list}; {SAVE_STATE_DICT}")))
            }
            _ => Err(Error::argument(format!("holds several dictionaries of tensors; {}", self.choices(&candidates)))),
        }
    }

    /// The tensors of the dictionary at the path `entry`, or those whose names begin with its end. "." is the root.
    fn named(&self, root: u32, entry: &str) -> Result<Chosen<'a>> {
        let mut dict = root;
        let mut rest = if entry == "." { "" } else { entry };
        while !rest.is_empty() {
            // The longest key that the path begins with: a key can hold dots.
            let steps = self.unpickler.dicts[dict as usize].iter().filter_map(|&(key, value)| match (key, value) {
                (Value::Str(key), Value::Dict(inner)) => {
                    let end = rest.strip_prefix(key)?;
                    let end = if end.is_empty() { Some(end) } else { end.strip_prefix('.') };
                    end.filter(|end| end.len() < rest.len()).map(|end| (inner, end))
                }
                _ => None,
            });
            match steps.min_by_key(|(_, end)| end.len()) {
                Some(step) => (dict, rest) = step,
                None => break,
            }
        }
        let chosen = match rest {
            "" if dict == root => self.unpickler.tensors(root, None)?,
            // Its only dictionary of tensors, if it has none itself.
            "" => Nodes::find(self.unpickler, dict).only(dict)?,
            prefix => self.unpickler.tensors(dict, Some(prefix))?,
        };
        if chosen.views.is_empty() {
            let all: Vec<usize> = (0..self.nodes.len()).filter(|&index| self.nodes[index].tensors > 0).collect();
            let entry = printable(entry);
            return Err(Error::argument(format!("has no tensors in an entry \"{entry}\"; {}", self.choices(&all))));
        }
        Ok(chosen)
    }

    /// The advice to choose one of these dictionaries.
    fn choices(&self, candidates: &[usize]) -> String {
        let mut list = String::new();
        for &index in candidates.iter().take(SHOWN) {
            let separator = if list.is_empty() { "" } else { ", " };
            let path = if index == 0 { ".".to_string() } else { self.path(index) };
            let tensors = self.nodes[index].tensors;
            let plural = if tensors == 1 { "" } else { "s" };
            let _ = write!(list, "{separator}--entry {path} ({tensors} tensor{plural})");
        }
        match list.is_empty() {
            true => "it has no dictionaries of tensors".to_string(),
            false => format!("choose one: {list}"),
        }
    }

    /// The keys that lead to a node, joined by dots.
    fn path(&self, mut index: usize) -> String {
        let mut keys = Vec::new();
        while index > 0 {
            keys.push(printable(self.nodes[index].key));
            index = self.nodes[index].parent;
        }
        keys.reverse();
        keys.join(".")
    }

    /// The dictionary directly in the root that leads to a node.
    fn ancestor(&self, mut index: usize) -> u32 {
        while self.nodes[index].parent > 0 {
            index = self.nodes[index].parent;
        }
        self.nodes[index].dict
    }
}

impl<'a> Unpickler<'a> {
    /// The tensors of a dictionary, or those whose names begin with `prefix`. A notice lists the other entries.
    fn tensors(&self, dict: u32, prefix: Option<&str>) -> Result<Chosen<'a>> {
        let mut chosen = Chosen::default();
        let mut skipped = Vec::new();
        for entry in &self.dicts[dict as usize] {
            let (key, value) = *entry;
            let name = match (key, prefix) {
                (Value::Str(key), None) => Some(key),
                (Value::Str(key), Some(prefix)) => sub_tree(key, prefix),
                _ => None,
            };
            match (name, value) {
                (Some(name), Value::View(view)) => {
                    chosen.views.push((name.to_string(), self.views[view as usize].clone()));
                }
                (Some(name), Value::Object(object)) if self.is_tensor(value) => {
                    let (name, class) = (printable(name), self.class_name(object));
                    let problem = format!("holds a tensor of an unsupported type ({class}), {name}");
                    return Err(Error::argument(format!("{problem}; in Python, make it a dense float32 tensor")));
                }
                _ => skipped.push(entry),
            }
        }
        if prefix.is_none() && !skipped.is_empty() && !chosen.views.is_empty() {
            chosen.notices.push(format!("skips {}, beside its tensors", self.listed(skipped.into_iter())));
        }
        Ok(chosen)
    }

    fn is_tensor(&self, value: Value) -> bool {
        match value {
            Value::View(_) => true,
            Value::Object(object) => self.is_unsupported_tensor(object),
            _ => false,
        }
    }

    fn is_float(&self, value: Value) -> bool {
        let is_float = |kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        match value {
            Value::View(view) => is_float(self.views[view as usize].storage.kind),
            _ => self.is_tensor(value),
        }
    }

    /// An object in words.
    fn object(&self, class: u32) -> String {
        format!("an object of the Python class {}, which was not executed", self.class_name(class))
    }

    /// Entries of a dictionary with their types in words.
    fn listed<'e>(&self, entries: impl Iterator<Item = &'e (Value<'a>, Value<'a>)>) -> String
    where
        'a: 'e,
    {
        let mut list = Vec::new();
        let mut more = 0;
        for &(key, value) in entries {
            if list.len() == SHOWN {
                more += 1;
                continue;
            }
            let key = match key {
                Value::Str(key) => format!("\"{}\"", printable(key)),
                Value::Int(key) => key.to_string(),
                _ => "another key".to_string(),
            };
            list.push(format!("{key} ({})", self.description(value)));
        }
        if more > 0 {
            list.push(format!("{more} more"));
        }
        list.join(", ")
    }

    fn description(&self, value: Value) -> String {
        let text = match value {
            Value::View(_) => "a tensor",
            Value::Dict(_) => "a dictionary",
            Value::Int(_) => "a number",
            Value::Str(_) => "text",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Other(description) => description,
            Value::Object(class) | Value::Class(Class::Unknown(class)) => return self.object(class),
            Value::Class(_) | Value::Storage(_) => "an object",
        };
        text.to_string()
    }
}
