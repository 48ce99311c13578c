//! Translation of a checkpoint's names into those of this crate's model.

use std::collections::BTreeMap;

use tch::Tensor;

use super::super::{StateDict, printable};

/// Pairs of a checkpoint's name and the model's, where `#` is the number of a block and an ending such as `.weight` stays.
/// A tensor with several pairs holds several of the model's, one after the other along its first axis.
pub(super) type Names = [(&'static str, &'static str)];

/// A checkpoint's tensors under the names of the model's variables, each with its name in the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Renamed(pub BTreeMap<String, (String, Tensor)>);

impl Renamed {
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name).map(|(_, tensor)| tensor)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn take(&mut self, name: &str) -> Option<(String, Tensor)> {
        self.0.remove(name)
    }

    /// Moves all tensors whose names begin with `from.`.
    pub fn move_all(&mut self, from: &str, to: &str) {
        let names: Vec<String> = self.0.keys().filter(|name| translated(name, from, to).is_some()).cloned().collect();
        for name in names {
            let entry = self.0.remove(&name).expect("the name was just found");
            self.0.insert(translated(&name, from, to).expect("as it was just found"), entry);
        }
    }

    pub fn into_dict(self) -> StateDict {
        StateDict(self.0.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect())
    }
}

/// The tensors that `names` translates, and a phrase about each that it doesn't.
pub(super) fn renamed(dict: StateDict, names: &Names) -> (Renamed, Vec<String>) {
    let (mut renamed, mut problems) = (Renamed::default(), Vec::new());
    for (name, tensor) in dict.0 {
        let targets: Vec<String> = names.iter().filter_map(|(theirs, ours)| translated(&name, theirs, ours)).collect();
        let parts = targets.len() as i64;
        let tensors = match tensor.size().first() {
            _ if parts == 0 => {
                problems.push(format!("{} is not understood", printable(&name)));
                continue;
            }
            _ if parts == 1 => vec![tensor],
            Some(rows) if *rows > 0 && rows % parts == 0 => tensor.chunk(parts, 0), // [3E, E] -> 3 × [E, E]
            _ => {
                let size = tensor.size();
                problems.push(format!("{} is {size:?}, which is not {parts} matrices in one", printable(&name)));
                continue;
            }
        };
        for (target, tensor) in targets.into_iter().zip(tensors) {
            if let Some((other, _)) = renamed.0.insert(target, (name.clone(), tensor)) {
                problems.push(format!("{} and {} have the same meaning", printable(&other), printable(&name)));
            }
        }
    }
    (renamed, problems)
}

/// The checkpoint's name of a variable of the model, for messages about one that is missing.
pub(super) fn their_name(ours: &str, names: &Names) -> String {
    let theirs = names.iter().find_map(|(theirs, pattern)| translated(ours, pattern, theirs));
    theirs.unwrap_or_else(|| ours.to_string())
}

/// `name` with the pattern `from` at its beginning replaced by `to`, if it is there as a whole.
pub(super) fn translated(name: &str, from: &str, to: &str) -> Option<String> {
    let whole = |rest: &str| rest.is_empty() || rest.starts_with('.');
    let Some((head, tail)) = from.split_once('#') else {
        let rest = name.strip_prefix(from).filter(|rest| whole(rest))?;
        return Some(format!("{to}{rest}"));
    };
    let after = name.strip_prefix(head)?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let (number, rest) = after.split_at(digits);
    let rest = rest.strip_prefix(tail).filter(|rest| whole(rest) && !number.is_empty())?;
    Some(format!("{}{rest}", to.replace('#', number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn names_go_both_ways() {
        let pair = ("blocks.#.attn.proj", "encoder.#.attention.out_projection");
        let name = "blocks.11.attn.proj.weight";
        let ours = translated(name, pair.0, pair.1).unwrap();
        assert_eq!(ours, "encoder.11.attention.out_projection.weight");
        assert_eq!(translated(&ours, pair.1, pair.0).unwrap(), name);
        for other in ["blocks.x.attn.proj", "blocks..attn.proj", "blocks.1.attn.projection", "block.1.attn.proj"] {
            assert_eq!(translated(other, pair.0, pair.1), None, "{other}");
        }
        assert_eq!(translated("head.bias", "head", "classifier.fc2").unwrap(), "classifier.fc2.bias");
        assert_eq!(translated("head_dist.bias", "head", "classifier.fc2"), None);
    }

    #[test]
    fn fused_matrices_are_split_in_order() {
        let names = [("qkv", "queries"), ("qkv", "keys"), ("qkv", "values")];
        let qkv = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([6, 1]);
        let odd = Tensor::zeros([4, 1], (Kind::Float, Device::Cpu));
        let dict = [("qkv.weight", qkv), ("qkv.bias", odd), ("other", Tensor::from(1f32))];
        let (renamed, problems) = renamed(StateDict(dict.map(|(n, t)| (n.to_string(), t)).into()), &names);
        assert_eq!(renamed.get("keys.weight").unwrap(), &Tensor::from_slice(&[2f32, 3.0]).view([2, 1]));
        assert_eq!(problems, ["qkv.bias is [4, 1], which is not 3 matrices in one", "other is not understood"]);
    }
}
