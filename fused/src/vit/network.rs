//! A Vision Transformer's sizes and weights as the fused step reads them.

use tch::nn::{LayerNorm, Linear, VarStore};
use tch::{Device, Kind, Tensor};

use super::aligned::Aligned;
use super::bfloat;
use super::flatten;
use super::rows::transpose;
use crate::config::Precision;
use crate::model::{Encoder, MyDeiT, ViTConfig, VisionTransformer};
use crate::{Error, Result};

/// Sizes by the letters of the shape comments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub side: usize,
    pub patch: usize,
    pub channels: usize,
    /// N patches
    pub patches: usize,
    /// Tokens before the patches: class, or class and distillation.
    pub prefix: usize,
    /// S = prefix + N
    pub tokens: usize,
    pub embed: usize,
    pub heads: usize,
    pub hidden: usize,
    pub classes: usize,
    pub dropout: f64,
}

impl Sizes {
    /// Numbers of an image.
    pub fn numbers(&self) -> usize {
        self.channels * self.side * self.side
    }

    /// Numbers of a patch, rounded up to whole vectors.
    pub fn patch_width(&self) -> usize {
        (self.channels * self.patch * self.patch).next_multiple_of(16)
    }
}

/// Where a layer's numbers begin in the flat vector of all parameters.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub weight: usize,
    pub bias: usize,
}

pub(super) struct BlockPlaces {
    pub norm1: Place,
    pub queries: Place,
    pub keys: Place,
    pub values: Place,
    pub out: Place,
    pub norm2: Place,
    pub fc1: Place,
    pub fc2: Place,
}

pub(super) struct Places {
    pub conv: Place,
    pub position: usize,
    /// Rows of the position embedding: N or S.
    pub position_rows: usize,
    /// Class and, in a DeiT, distillation token.
    pub tokens: Vec<usize>,
    pub blocks: Vec<BlockPlaces>,
    pub norm: Place,
    pub fc1: Place,
    pub fc2: Place,
    pub fc_dist: Option<Place>,
}

/// The matrices of a block in the order in which products read them: [inputs, outputs].
pub(super) struct BlockWeights {
    pub queries: Aligned,
    /// Keys and values side by side: [E, 2E], its bias, and the same as [2E, E] for the backward pass.
    pub keys_values: Aligned,
    pub keys_values_bias: Aligned,
    pub keys_values_back: Aligned,
    pub out: Aligned,
    pub fc1: Aligned,
    pub fc2: Aligned,
}

/// A network, its parameters copied and arranged anew by [`Network::load`]: threads can share it, tensors they can't.
pub(super) struct Network {
    pub sizes: Sizes,
    pub places: Places,
    /// All parameters in the order of their creation.
    pub flat: Aligned,
    /// The same as they are found to be.
    fresh: Aligned,
    pub conv: Aligned,
    pub blocks: Vec<BlockWeights>,
    /// One for each block where predictions are to be in bfloat16, otherwise none.
    pub pairs: Vec<bfloat::Weights>,
    pub fc1: Aligned,
}

impl Network {
    pub fn vit(model: &VisionTransformer, store: &VarStore) -> Result<(Self, Vec<Tensor>)> {
        let index = Index::new(store)?;
        let embedding = &model.embedding;
        let places = Places {
            conv: index.place(&embedding.conv1.ws, embedding.conv1.bs.as_ref()),
            position: index.start(&embedding.pos_embedding),
            position_rows: model.config.position_rows as usize,
            tokens: vec![index.start(&embedding.cls_token)],
            blocks: index.blocks(&model.encoder),
            norm: index.norm(&model.norm),
            fc1: index.linear(&model.classifier.fc1),
            fc2: index.linear(&model.classifier.fc2),
            fc_dist: None,
        };
        Network::new(&model.config, places, index)
    }

    pub fn deit(model: &MyDeiT, store: &VarStore) -> Result<(Self, Vec<Tensor>)> {
        let index = Index::new(store)?;
        let (embedding, classifier) = (&model.embedding, &model.classifier);
        let places = Places {
            conv: index.place(&embedding.conv1.ws, embedding.conv1.bs.as_ref()),
            position: index.start(&embedding.pos_embedding),
            position_rows: model.config.position_rows as usize,
            tokens: vec![index.start(&embedding.cls_token), index.start(&embedding.dist_token)],
            blocks: index.blocks(&model.encoder),
            norm: index.norm(&model.norm),
            fc1: index.linear(&classifier.class.fc1),
            fc2: index.linear(&classifier.class.fc2),
            fc_dist: Some(index.linear(&classifier.fc_dist)),
        };
        Network::new(&model.config, places, index)
    }

    fn new(config: &ViTConfig, places: Places, index: Index) -> Result<(Self, Vec<Tensor>)> {
        let [embed, heads] = [config.embed_dim, config.n_attention_heads];
        if embed % 16 != 0 || (embed / heads) % 16 != 0 {
            return Err(Error::argument(format!(
                "the fused step needs heads of a multiple of 16 numbers, EMBED_DIM {embed} and N_ATTENTION_HEADS {heads} \
                 give {}; train with the model's own forward pass",
                embed as f64 / heads as f64
            )));
        }
        let patches = (config.image_size / config.patch_size).pow(2) as usize;
        let prefix = places.tokens.len();
        let sizes = Sizes {
            side: config.image_size as usize,
            patch: config.patch_size as usize,
            channels: config.n_channels as usize,
            patches,
            prefix,
            tokens: prefix + patches,
            embed: embed as usize,
            heads: heads as usize,
            hidden: (embed * config.forward_mul) as usize,
            classes: config.n_classes as usize,
            dropout: config.dropout,
        };
        let matrix = |inputs: usize, outputs: usize| Aligned::zeros(inputs * outputs);
        let (e, f) = (sizes.embed, sizes.hidden);
        let blocks = places.blocks.iter().map(|_| BlockWeights {
            queries: matrix(e, e),
            keys_values: matrix(e, 2 * e),
            keys_values_bias: Aligned::zeros(2 * e),
            keys_values_back: matrix(2 * e, e),
            out: matrix(e, e),
            fc1: matrix(e, f),
            fc2: matrix(f, e),
        });
        let network = Network {
            blocks: blocks.collect(),
            conv: matrix(sizes.patch_width(), e),
            fc1: matrix(e, e),
            // Not a number: equal to no parameters.
            flat: Aligned::filled(f32::NAN, index.length),
            fresh: Aligned::zeros(index.length),
            pairs: Vec::new(),
            sizes,
            places,
        };
        Ok((network, index.parameters))
    }

    /// What predictions are computed in; takes effect with the next [`Network::load`].
    pub fn set_precision(&mut self, precision: Precision) {
        let blocks = match precision {
            Precision::Float32 => 0,
            Precision::Bfloat16 => self.blocks.len(),
        };
        self.pairs.clear();
        self.pairs.resize_with(blocks, bfloat::Weights::default);
        self.flat.fill(f32::NAN);
    }

    /// Takes over the parameters as they are now, if they have changed.
    pub fn load(&mut self, parameters: &[Tensor]) {
        flatten(parameters, &mut self.fresh);
        if *self.fresh == *self.flat {
            return;
        }
        std::mem::swap(&mut self.fresh, &mut self.flat);
        let (flat, e, f) = (&self.flat, self.sizes.embed, self.sizes.hidden);
        // [outputs, inputs] as libtorch has it -> [inputs, outputs] in rows of `width`
        let turn = |place: Place, (outputs, inputs), to: &mut [f32], width| {
            transpose(&flat[place.weight..], (outputs, inputs), inputs, to, width);
        };
        let numbers = self.sizes.channels * self.sizes.patch * self.sizes.patch;
        turn(self.places.conv, (e, numbers), &mut self.conv, e);
        turn(self.places.fc1, (e, e), &mut self.fc1, e);
        for (weights, places) in self.blocks.iter_mut().zip(&self.places.blocks) {
            turn(places.queries, (e, e), &mut weights.queries, e);
            turn(places.out, (e, e), &mut weights.out, e);
            turn(places.fc1, (f, e), &mut weights.fc1, f);
            turn(places.fc2, (e, f), &mut weights.fc2, e);
            for (i, place) in [places.keys, places.values].into_iter().enumerate() {
                let bias = &flat[place.bias..place.bias + e];
                weights.keys_values_bias[i * e..(i + 1) * e].copy_from_slice(bias);
                let back = &mut weights.keys_values_back[i * e * e..(i + 1) * e * e];
                back.copy_from_slice(&flat[place.weight..place.weight + e * e]);
            }
            let both = &weights.keys_values_back;
            transpose(both, (2 * e, e), e, &mut weights.keys_values, 2 * e);
        }
        for (i, pairs) in self.pairs.iter_mut().enumerate() {
            let bias = self.places.blocks[i].queries.bias;
            pairs.load(&self.blocks[i], &flat[bias..bias + e], self.sizes.heads);
        }
    }

    /// The numbers of a parameter.
    pub fn at(&self, start: usize, length: usize) -> &[f32] {
        &self.flat[start..start + length]
    }
}

/// Finds parameters in the order of their creation, which is also the optimizer's.
pub(super) struct Index {
    pub parameters: Vec<Tensor>,
    pub length: usize,
}

impl Index {
    pub fn new(store: &VarStore) -> Result<Self> {
        let parameters = store.trainable_variables();
        let fits = |p: &Tensor| p.device() == Device::Cpu && p.kind() == Kind::Float;
        if !parameters.iter().all(fits) {
            return Err(Error::argument(
                "the fused step trains on the CPU in float32; elsewhere use the model's own forward pass",
            ));
        }
        Ok(Index { length: parameters.iter().map(Tensor::numel).sum(), parameters })
    }

    pub fn start(&self, parameter: &Tensor) -> usize {
        let before = |p: &&Tensor| p.data_ptr() != parameter.data_ptr();
        self.parameters.iter().take_while(before).map(Tensor::numel).sum()
    }

    pub fn place(&self, weight: &Tensor, bias: Option<&Tensor>) -> Place {
        Place { weight: self.start(weight), bias: self.start(bias.expect("the layers of this network have a bias")) }
    }

    pub fn linear(&self, layer: &Linear) -> Place {
        self.place(&layer.ws, layer.bs.as_ref())
    }

    fn norm(&self, layer: &LayerNorm) -> Place {
        let weight = layer.ws.as_ref().expect("the norms of this network have weights");
        self.place(weight, layer.bs.as_ref())
    }

    fn blocks(&self, encoder: &[Encoder]) -> Vec<BlockPlaces> {
        let block = |block: &Encoder| BlockPlaces {
            norm1: self.norm(&block.norm1),
            queries: self.linear(&block.attention.queries),
            keys: self.linear(&block.attention.keys),
            values: self.linear(&block.attention.values),
            out: self.linear(&block.attention.out_projection),
            norm2: self.norm(&block.norm2),
            fc1: self.linear(&block.fc1),
            fc2: self.linear(&block.fc2),
        };
        encoder.iter().map(block).collect()
    }
}
