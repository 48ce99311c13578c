//! Explanations of many images, as maps and as a figure.

use std::sync::mpsc::sync_channel;

use ndarray::{Array3, Axis, concatenate};
use tch::{Kind, Tensor};

use super::{Learner, mean};
use crate::error::{Error, Result, ensure};
use crate::explain::{
    self, Exploration, Explorer, Heatmap, MapScale, Query, Rollout, Target, gradient_attention, relevance, rollout,
};
use crate::plot::{self, Bar, Figure, Grid, Map, Tile};

/// The method that makes a matrix of tokens by tokens from a model's attention. The class is the one whose score is
/// explained, or `None` for the predicted class of each image.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    Rollout(Rollout),
    /// The query's row of one layer's attention (the last layer's if `None`), of one head or as the mean of the heads.
    Attention {
        layer: Option<usize>,
        head: Option<usize>,
    },
    /// The rollout of the attention weighted by its gradient, see [`gradient_attention`].
    GradientRollout(Rollout, Option<i64>),
    /// See [`relevance`].
    Relevance(Option<i64>),
}

/// Maps of images, and the class that the model predicts for each.
#[derive(Debug)]
pub struct Explanation {
    /// [N, I, I]
    pub maps: Array3<f32>,
    /// The maps before they were upsampled and scaled, [N, 7, 7] for 49 patches.
    pub grids: Array3<f32>,
    /// N class numbers
    pub predicted: Vec<i64>,
    /// The name of each class, from [`Learner::class_names`].
    pub classes: Vec<String>,
    /// N names to show below the images, for instance of their files. May be empty.
    pub names: Vec<String>,
}

impl Learner {
    /// Maps of images, with this model's prefix tokens. The images are bytes, [N, I, I] in grey or [N, C, I, I], or the
    /// model's input in float32, see [`Preprocessing::input`]. `progress` gets the number of images done.
    ///
    /// # Errors
    /// A CNN, images that don't have the model's shape, or options that the model doesn't have.
    pub fn explain(
        &self,
        images: &Tensor,
        method: &Method,
        heatmap: &Heatmap,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Explanation> {
        let prefix_tokens = self.network.prefix_tokens()?;
        self.network.check_query(heatmap.query)?;
        let heatmap = Heatmap { prefix_tokens, image_size: self.network.image().1, ..heatmap.clone() };
        let batches = images.f_split(self.batch_size(), 0)?;
        let input = |batch| self.preprocessing.input(batch);
        let rows = batches.iter().map(|batch| self.explained_rows(&input(batch)?, method, heatmap.query));
        let (mut maps, mut grids, mut predicted) = (Vec::new(), Vec::new(), Vec::new());
        pipelined(rows, |(rows, logits)| {
            maps.push(heatmap.maps_of_rows(&rows)?);
            grids.push(explain::grid_of_rows(&rows, prefix_tokens)?);
            predicted.extend(Vec::<i64>::try_from(logits.argmax(1, false))?);
            progress(predicted.len());
            Ok(())
        })?;
        let (maps, grids, classes) = (joined(&maps)?, joined(&grids)?, self.class_names());
        Ok(Explanation { maps, grids, predicted, classes, names: Vec::new() })
    }

    /// A page about one image: where each token looks, by layer and head, and rolled out with `options`. `figure` stands
    /// where scripts don't run. The image is bytes, [I, I] or [C, I, I], or the model's input in float32 [C, I, I].
    ///
    /// # Errors
    /// Fails as [`Learner::explain`] does.
    pub fn explore(&self, title: &str, image: &Tensor, options: &Rollout, figure: Figure) -> Result<Explorer> {
        let batch = image.unsqueeze(0); // [C, I, I] -> [1, C, I, I]
        let (_, attention) = self.attention(&self.preprocessing.input(&batch)?)?;
        let rolled = rollout(&attention, options)?; // [1, L, H, S, S] -> [1, S, S]
        let shown =
            if image.kind() == Kind::Float { self.preprocessing.bytes(&batch).get(0) } else { image.shallow_clone() };
        Explorer::new(Exploration {
            title,
            image: &shown,
            attention: &attention.get(0),
            rollout: &rolled.get(0),
            prefix: &self.network.prefix_names()?,
            figure,
        })
    }

    /// The query's row of each image's matrix, [B, S], and the logits [B, classes].
    pub(super) fn explained_rows(&self, images: &Tensor, method: &Method, query: Query) -> Result<(Tensor, Tensor)> {
        let class = match method {
            Method::Rollout(options) => return self.rollout(images, options, query),
            Method::Attention { layer, head } => return self.attention_rows(images, *layer, *head, query),
            Method::GradientRollout(_, class) | Method::Relevance(class) => *class,
        };
        let (heads, layers) = self.network.forward(images, false)?;
        let logits = mean(&heads);
        let weighted = gradient_attention(&logits, &layers, &class.map_or(Target::Predicted, Target::Class))?;
        let matrix = match method {
            Method::GradientRollout(options, _) => rollout(&weighted, options)?,
            _ => relevance(&weighted)?,
        };
        Ok((explain::row(&matrix, query, self.network.prefix_tokens()?)?, logits.detach()))
    }

    /// The query's row of one layer's attention, [B, S], and the logits [B, classes].
    fn attention_rows(
        &self,
        images: &Tensor,
        layer: Option<usize>,
        head: Option<usize>,
        query: Query,
    ) -> Result<(Tensor, Tensor)> {
        let (heads, layers) = tch::no_grad(|| self.network.forward(images, false))?;
        let layer = layer.unwrap_or(layers.len().saturating_sub(1));
        let attention =
            layers.get(layer).ok_or_else(|| Error::argument(format!("layer {layer}: there is no such layer")))?;
        ensure!(head.is_none_or(|head| (head as i64) < attention.size()[1]), "head {head:?}: there is no such head");
        let matrix = match head {
            Some(head) => attention.select(1, head as i64), // [B, H, S, S] -> [B, S, S]
            None => attention.mean_dim([1i64].as_slice(), false, None), // [B, H, S, S] -> [B, S, S]
        };
        Ok((explain::row(&matrix, query, self.network.prefix_tokens()?)?, mean(&heads)))
    }
}

impl Explanation {
    /// Pairs of image and map over it, three in a row. The captions name the image, if it has a name, and the predicted
    /// class, and the true one where `labels` has another. `images` are bytes, [N, I, I] or [N, C, I, I]; `scale` is the
    /// one that the maps were made with.
    ///
    /// # Errors
    /// Another number of images or labels than of maps.
    pub fn figure(&self, title: &str, images: &Tensor, labels: Option<&[i64]>, scale: MapScale) -> Result<Figure> {
        self.grid(title, images, labels, scale)?.figure()
    }

    /// [`Explanation::figure`] as a grid, before it is drawn.
    ///
    /// # Errors
    /// Another number of images or labels than of maps.
    pub fn grid(&self, title: &str, images: &Tensor, labels: Option<&[i64]>, scale: MapScale) -> Result<Grid> {
        let count = self.predicted.len();
        let fits = images.size()[0] as usize == count && labels.is_none_or(|labels| labels.len() == count);
        ensure!(fits, "give {count} images, and as many labels: there are {count} maps");
        let maps: Vec<_> = self.maps.outer_iter().map(|map| map.to_owned()).collect();
        let colors = plot::Scale::fit(Map::Inferno, &maps);
        let name = |class: i64| self.classes.get(class as usize).map_or("?", String::as_str);
        let mut tiles = Vec::new();
        for (i, (map, &class)) in maps.into_iter().zip(&self.predicted).enumerate() {
            let class = match labels.map(|labels| labels[i]) {
                Some(label) if label != class => format!("{} (is {})", name(class), name(label)),
                _ => name(class).to_string(),
            };
            let (below_image, below_map) = match self.names.get(i) {
                Some(name) => (name.clone(), class),
                None => (class, String::new()),
            };
            let tile = Tile::picture(&images.get(i as i64), below_image)?;
            tiles.push(tile.clone());
            tiles.push(Tile { caption: below_map, ..tile }.under(map, colors));
        }
        Ok(Grid {
            title: title.into(),
            columns: tiles.len().min(6),
            tiles,
            bar: Some(Bar { scale: colors, label: format!("scale: {scale}") }),
            ..Grid::default()
        })
    }
}

/// The batches' arrays [B, h, w] as one [N, h, w].
fn joined(batches: &[Array3<f32>]) -> Result<Array3<f32>> {
    let views: Vec<_> = batches.iter().map(Array3::view).collect();
    concatenate(Axis(0), &views).map_err(|_| Error::argument("there are no images; give at least one"))
}

/// Makes one item after the other on this thread while another thread finishes those before, in their order.
///
/// ```
/// use vitlab::{Error, learner::pipelined};
/// let root = |x: f64| if x < 0.0 { Err(Error::argument("below 0")) } else { Ok(x.sqrt()) };
/// assert_eq!(pipelined([1.0, 4.0].map(Ok).into_iter(), root)?, [1.0, 2.0]);
/// let failed = pipelined([1.0, -1.0, 4.0].map(Ok).into_iter(), root);
/// assert_eq!(failed.unwrap_err().to_string(), "below 0");
/// let failed = pipelined([Ok(1.0), Err(Error::argument("none")), Ok(4.0)].into_iter(), root);
/// assert_eq!(failed.unwrap_err().to_string(), "none");
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The first error of either stage.
pub fn pipelined<T: Send, U: Send>(
    items: impl Iterator<Item = Result<T>>,
    finish: impl FnMut(T) -> Result<U> + Send,
) -> Result<Vec<U>> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        let second = scope.spawn(move || receiver.into_iter().map(finish).collect());
        for item in items {
            // The second stage stops receiving at its first error.
            if sender.send(item?).is_err() {
                break;
            }
        }
        drop(sender);
        second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
