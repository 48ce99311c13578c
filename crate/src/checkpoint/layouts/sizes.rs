//! The sizes of a model, from the shapes of its tensors under the model's names.
//!
//! All shapes are compared with each other before a model is built: sizes that lie cost no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::super::printable;
use super::description::Description;
use super::names::{Renamed, their_name};
use super::{Architecture, Layout, google, timm};
use crate::error::{Error, Result};
use crate::model::{Head, Pool, Structure, ViTConfig};

/// Problems that one message lists; a file of another model could have thousands.
const MOST_PROBLEMS: usize = 40;

/// A checkpoint on the way to a model.
pub(super) struct Reading<'a> {
    pub tensors: Renamed,
    pub layout: &'a Layout,
    pub description: &'a Description,
    pub path: &'a Path,
    /// Phrases about tensors that don't fit, for one message.
    pub problems: Vec<String>,
    /// Notices for the user about assumptions.
    pub assumed: Vec<String>,
}

impl Reading<'_> {
    /// The architecture, after which the tensors are exactly those of its model. `heads` is what the user or the
    /// layout's shapes say.
    pub fn architecture(&mut self, heads: Option<i64>) -> Result<Architecture> {
        if self.layout.own && self.tensors.has("stages.0.0.conv.weight") {
            return Ok(Architecture::Cnn);
        }
        let conv = self.shape("embedding.conv1.weight", 4)?; // [E, C, P, P]
        let [embed, channels, patch, width] = conv[..] else { unreachable!("four axes") };
        if embed < 1 || channels < 1 || patch < 1 || patch != width {
            return Err(self.failed(format!("its patch projection is {conv:?}, vitlab needs [E, C, P, P]")));
        }
        let distilled = self.tensors.has("embedding.dist_token")
            && (self.layout.own || self.tensors.has("classifier.fc_dist.weight"));
        let (prefix_tokens, registers, grid) = self.tokens(embed, patch, distilled)?;
        let hidden = self.shape("encoder.0.fc1.weight", 2)?[0];
        let layers = self.layers();
        self.fill_biases(embed, layers);
        let heads = self.heads(embed, heads)?;
        let norm_epsilon = self.description.norm_epsilon()?.unwrap_or(self.layout.norm_epsilon);
        let layer_scale = !self.layout.own && self.tensors.has("encoder.0.scale1");
        let (head, features) = self.head()?;
        let pool = self.pool(embed, features, prefix_tokens > registers)?;
        let features = if pool == Pool::ClassAndPatches { 2 * embed } else { embed };
        let n_classes = match head {
            Head::None => features,
            _ => self.shape("classifier.fc2.weight", 2)?[0],
        };
        let structure = Structure {
            prefix_tokens,
            registers,
            hidden_dim: (hidden % embed != 0).then_some(hidden),
            norm_epsilon,
            layer_scale,
            pool,
            head,
        };
        let sizes = ViTConfig {
            image_size: grid * patch,
            patch_size: patch,
            n_channels: channels,
            embed_dim: embed,
            n_layers: layers,
            n_attention_heads: heads,
            forward_mul: hidden / embed,
            n_classes,
            dropout: 0.0,
            position_rows: self.shape("embedding.pos_embedding", 3)?[1],
            structure,
        };
        self.compare(&sizes, distilled)?;
        Ok(if distilled { Architecture::Deit(sizes) } else { Architecture::Vit(sizes) })
    }

    fn their(&self, ours: &str) -> String {
        let known = self.tensors.0.get(ours).map(|(theirs, _)| printable(theirs));
        known.unwrap_or_else(|| their_name(ours, self.layout.names))
    }

    /// An error with all problems so far and one more.
    fn failed(&self, problem: String) -> Error {
        let rest = self.problems.len().saturating_sub(MOST_PROBLEMS);
        let mut problems: Vec<String> =
            std::iter::once(problem).chain(self.problems.iter().take(MOST_PROBLEMS).cloned()).collect();
        if rest > 0 {
            problems.push(format!("and {rest} more"));
        }
        Error::file(self.path, problems.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("; "))
    }

    fn shape(&self, name: &str, rank: usize) -> Result<Vec<i64>> {
        let size = self.tensors.get(name).map(Tensor::size).filter(|size| size.len() == rank);
        size.ok_or_else(|| self.failed(format!("{} is missing or has a wrong shape", self.their(name))))
    }

    /// A token or positions [1, n, E] in float32, and n; `None` if the checkpoint has none.
    fn rows(&self, name: &str, embed: i64) -> Result<Option<(Tensor, i64)>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        match tensor.size()[..] {
            [1, rows, width] if width == embed && rows > 0 && tensor.is_floating_point() => {
                Ok(Some((tensor.shallow_clone(), rows)))
            }
            _ => {
                let (size, kind) = (tensor.size(), tensor.kind());
                let problem = format!("{} is {size:?} of {kind:?}, this model needs [1, n, {embed}]", self.their(name));
                Err(self.failed(problem))
            }
        }
    }

    /// Joins all tokens before the patches into `embedding.cls_token` and brings the positions to a row per token or a
    /// row per patch. Gives the number of these tokens, of the registers among them, and the side of the patches' grid.
    fn tokens(&mut self, embed: i64, patch: i64, distilled: bool) -> Result<(i64, i64, i64)> {
        let Some((positions, rows)) = self.rows("embedding.pos_embedding", embed)? else {
            return Err(self.failed(format!("{} is missing", self.their("embedding.pos_embedding"))));
        };
        let mut named = Vec::new();
        let mut registers = None;
        for (name, wanted) in [("cls_token", true), ("dist_token", !distilled), ("registers", true)] {
            let name = format!("embedding.{name}");
            let Some((token, count)) = self.rows(&name, embed)?.filter(|_| wanted) else { continue };
            if name == "embedding.registers" {
                registers = Some((token, count));
            } else if count == 1 {
                named.push(token);
            } else {
                return Err(
                    self.failed(format!("{} is [1, {count}, {embed}], it must be one token", self.their(&name)))
                );
            }
        }
        let named_tokens = named.len() as i64;
        let count = registers.as_ref().map_or(0, |(_, count)| *count);
        let in_front = named_tokens + count + i64::from(distilled);
        let own_rows = named_tokens + i64::from(distilled);
        let Some((skipped, grid)) = self.grid(rows, patch, [own_rows, in_front, 0]) else {
            let problem = format!("its {rows} position rows fit no square grid of patches behind {in_front} tokens");
            return Err(self.failed(format!("{problem} (patch projection [{embed}, …, {patch}, {patch}])")));
        };
        if !self.layout.own {
            let mut positions = positions;
            if skipped == own_rows && own_rows > 0 && count > 0 {
                // The registers come after the positions: the named tokens get theirs here, and rows of patches remain.
                let with_rows = Tensor::cat(&named, 1).to_kind(Kind::Float) + positions.narrow(1, 0, own_rows);
                named = vec![with_rows];
                positions = positions.narrow(1, own_rows, grid * grid);
            }
            named.extend(registers.map(|(token, _)| token));
            let token = match named.is_empty() {
                true => Tensor::zeros([1, 0, embed], (Kind::Float, Device::Cpu)),
                false => Tensor::cat(&named, 1), // -> [1, prefix, E]
            };
            self.tensors.take("embedding.registers");
            if !distilled {
                self.tensors.take("embedding.dist_token");
            }
            self.replace("embedding.cls_token", token);
            self.replace("embedding.pos_embedding", positions);
        }
        Ok((named_tokens + count, count, grid))
    }

    /// The number of position rows before those of the patches, one of `choices`, and the side of the patches' grid.
    fn grid(&self, rows: i64, patch: i64, choices: [i64; 3]) -> Option<(i64, i64)> {
        let grids = choices.into_iter().filter_map(|skipped| {
            let patches = (rows - skipped).max(0);
            let side = patches.isqrt();
            (patches > 0 && side * side == patches).then_some((skipped, side))
        });
        let grids: Vec<(i64, i64)> = grids.collect();
        let described = self.description.image_size();
        let fits = grids.iter().find(|(_, side)| Some(side * patch) == described);
        fits.or(grids.first()).copied()
    }

    fn replace(&mut self, ours: &str, tensor: Tensor) {
        let theirs = self.their(ours);
        self.tensors.0.insert(ours.to_string(), (theirs, tensor));
    }

    /// The largest number of a block plus 1, as far as there can be so many.
    fn layers(&self) -> i64 {
        let numbers: BTreeSet<i64> = self
            .tensors
            .0
            .keys()
            .filter_map(|name| name.strip_prefix("encoder.")?.split('.').next()?.parse().ok())
            .collect();
        let most = numbers.len() as i64 * 2 + 8;
        numbers.last().map_or(0, |last| (last + 1).min(most))
    }

    /// Models without these biases compute the same with zeros. A description that announces biases is believed.
    fn fill_biases(&mut self, embed: i64, layers: i64) {
        if self.layout.own {
            return;
        }
        let zeros = |width: i64| Tensor::zeros([width], (Kind::Float, Device::Cpu));
        let announced = self.description.at("/qkv_bias").and_then(|value| value.as_bool()) == Some(true);
        for part in ["queries", "keys", "values"] {
            let names: Vec<String> = (0..layers).map(|i| format!("encoder.{i}.attention.{part}.bias")).collect();
            if !announced && names.iter().all(|name| !self.tensors.has(name)) {
                names.iter().for_each(|name| self.replace(name, zeros(embed)));
            }
        }
        let outputs = self.tensors.get("classifier.fc2.weight").and_then(|weight| weight.size().first().copied());
        for (name, width) in [("embedding.conv1", Some(embed)), ("classifier.fc2", outputs)] {
            let bias = format!("{name}.bias");
            if let Some(width) = width.filter(|_| !self.tensors.has(&bias)) {
                self.replace(&bias, zeros(width));
            }
        }
    }

    fn heads(&mut self, embed: i64, given: Option<i64>) -> Result<i64> {
        let described = match self.description.embed_dim()? {
            Some(width) if width != embed => {
                let note = format!("the description beside it is of a model of width {width}, this one has {embed}");
                self.assumed.push(note);
                None
            }
            _ => self.description.heads()?,
        };
        let architecture = self.description.text("/architecture");
        let known = given.or(described).or_else(|| timm::heads(architecture?, embed));
        let heads = known.or_else(|| self.usual_heads(embed));
        let Some(heads) = heads.filter(|heads| *heads >= 1 && embed % heads == 0) else {
            let number = heads.map_or("unknown".to_string(), |heads| heads.to_string());
            let mut problem = format!("its number of attention heads is {number}, which doesn't fit the width {embed}");
            if let Some(note) = self.assumed.last() {
                problem = format!("{note}; {problem}");
            }
            return Err(self.failed(format!("{problem}; give --heads N, a divisor of {embed}")));
        };
        if known.is_none() {
            let width = embed / heads;
            self.assumed
                .push(format!("{heads} attention heads of width {width} (give --heads N if it has another number)"));
        }
        Ok(heads)
    }

    /// The usual number of heads of a width: published models that don't have the layout's usual width of a head, else
    /// that width.
    fn usual_heads(&self, embed: i64) -> Option<i64> {
        match embed {
            1152 | 1280 | 1408 | 1664 if !self.layout.own => Some(16),
            _ => (embed % self.layout.head_width == 0).then_some(embed / self.layout.head_width),
        }
    }

    /// The head, and the number of features that it gets, if the tensors tell it.
    fn head(&self) -> Result<(Head, Option<i64>)> {
        let inputs = |name: &str| self.shape(name, 2).map(|shape| Some(shape[1]));
        Ok(match ["classifier.fc1.weight", "classifier.fc2.weight"].map(|name| self.tensors.has(name)) {
            _ if self.layout.own => (Head::TwoLayers, None),
            [true, true] => (Head::TwoLayers, inputs("classifier.fc1.weight")?),
            [false, true] => (Head::Linear, inputs("classifier.fc2.weight")?),
            [_, false] => (Head::None, None),
        })
    }

    fn pool(&mut self, embed: i64, features: Option<i64>, class_token: bool) -> Result<Pool> {
        if self.layout.own {
            return Ok(Pool::Class);
        }
        if self.tensors.has("classifier.norm.weight") {
            self.tensors.move_all("classifier.norm", "norm");
            return Ok(Pool::PatchesBeforeNorm);
        }
        if features == Some(2 * embed) && class_token {
            return Ok(Pool::ClassAndPatches);
        }
        match self.description.pool() {
            Some("avg") => Ok(Pool::Patches),
            Some("token" | "") | None if class_token => Ok(Pool::Class),
            Some("token" | "") | None => Ok(Pool::Patches),
            Some(other) => Err(self.failed(format!("its pooling is \"{other}\"; vitlab has token and avg"))),
        }
    }

    /// Compares names and shapes with those that a model of these sizes has.
    fn compare(&mut self, sizes: &ViTConfig, distilled: bool) -> Result<()> {
        let mut expected = shapes(sizes, distilled);
        for (name, (theirs, tensor)) in &self.tensors.0 {
            let theirs = printable(theirs);
            match expected.remove(name) {
                None => self.problems.push(format!("{theirs} is not part of this model")),
                Some(needed) if needed != tensor.size() => {
                    let size = tensor.size();
                    self.problems.push(format!("{theirs} is {size:?}, this model needs {needed:?}"));
                }
                Some(_) => {}
            }
        }
        let missing: Vec<String> = expected.keys().map(|name| format!("{} is missing", self.their(name))).collect();
        self.problems.extend(missing);
        self.problems.dedup();
        if self.problems.is_empty() { Ok(()) } else { Err(self.failed(String::new())) }
    }
}

/// The variables of a model and their shapes.
fn shapes(sizes: &ViTConfig, distilled: bool) -> BTreeMap<String, Vec<i64>> {
    let &ViTConfig { embed_dim: e, n_channels: c, patch_size: p, n_classes, position_rows, .. } = sizes;
    let (hidden, features, structure) = (sizes.hidden_dim(), sizes.features(), &sizes.structure);
    let mut shapes = BTreeMap::new();
    let mut add = |name: String, shape: Vec<i64>| shapes.insert(name, shape);
    let mut layer = |name: String, weight: Vec<i64>| {
        add(format!("{name}.bias"), vec![weight[0]]);
        add(format!("{name}.weight"), weight);
    };
    layer("embedding.conv1".into(), vec![e, c, p, p]);
    layer("norm".into(), vec![e]);
    for i in 0..sizes.n_layers {
        for part in ["queries", "keys", "values", "out_projection"] {
            layer(format!("encoder.{i}.attention.{part}"), vec![e, e]);
        }
        layer(format!("encoder.{i}.norm1"), vec![e]);
        layer(format!("encoder.{i}.norm2"), vec![e]);
        layer(format!("encoder.{i}.fc1"), vec![hidden, e]);
        layer(format!("encoder.{i}.fc2"), vec![e, hidden]);
    }
    if structure.head == Head::TwoLayers {
        layer("classifier.fc1".into(), vec![features, features]);
    }
    if structure.head != Head::None {
        layer("classifier.fc2".into(), vec![n_classes, features]);
    }
    if distilled {
        layer("classifier.fc_dist".into(), vec![n_classes, e]);
        add("embedding.dist_token".into(), vec![1, 1, e]);
    }
    add("embedding.cls_token".into(), vec![1, structure.prefix_tokens, e]);
    add("embedding.pos_embedding".into(), vec![1, position_rows, e]);
    for i in (0..sizes.n_layers).filter(|_| structure.layer_scale) {
        for name in ["scale1", "scale2"] {
            add(format!("encoder.{i}.{name}"), vec![e]);
        }
    }
    shapes
}

/// Checks that tensors are stored element by element: a small file whose tensors repeat their values could claim any
/// size.
pub(super) fn stored_once(tensors: &[(String, Tensor)], path: &Path) -> Result<()> {
    let bytes = |count: i64, tensor: &Tensor| count as i128 * tensor.kind().elt_size_in_bytes() as i128;
    let (mut claimed, mut stored) = (0i128, BTreeMap::new());
    for (_, tensor) in tensors {
        let axes = tensor.size().into_iter().zip(tensor.stride());
        let span = 1 + axes.map(|(size, stride)| (size - 1).max(0) * stride.abs()).sum::<i64>();
        claimed += bytes(tensor.numel() as i64, tensor);
        let stored = stored.entry(tensor.data_ptr() as usize).or_insert(0);
        *stored = bytes(span, tensor).max(*stored);
    }
    let stored: i128 = stored.values().sum();
    if claimed <= 2 * stored + (1 << 20) {
        return Ok(());
    }
    let problem = format!("claims {claimed} bytes of parameters, but stores {stored}: its tensors repeat their values");
    Err(Error::file(path, format!("{problem}; save them as contiguous tensors")))
}

/// Information about the heads in the shapes of this layout.
pub(super) fn heads_in_shapes(layout: &Layout, dict: &super::StateDict) -> Option<i64> {
    (layout.name == google::LAYOUT.name).then(|| google::heads(dict)).flatten()
}
