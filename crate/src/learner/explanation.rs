//! Explanations of many images, as maps and as a figure.

use std::sync::mpsc::sync_channel;

use ndarray::{Array3, Axis, concatenate};
use tch::{Kind, Tensor};

use super::drawing::{Drawing, colors};
use super::{Learner, Method};
use crate::error::{Error, Result, ensure};
use crate::explain::{self, Exploration, Explorer, Heatmap, MapScale, Rollout, rollout};
use crate::plot::{Figure, Grid, Tile};

/// The widest picture in pixels of which three pairs fit into a row with all of their pixels.
const WIDE: usize = 248;

/// Maps of images, and the class that the model predicts for each.
#[derive(Debug)]
pub struct Explanation {
    /// [N, I, I]
    pub maps: Array3<f32>,
    /// The maps before they were upsampled and scaled, [N, 7, 7] for 49 patches.
    pub grids: Array3<f32>,
    /// N class numbers
    pub predicted: Vec<i64>,
    /// The name of each class, from [`Learner::class_names`]. Empty for a model without a head, which predicts no class.
    pub classes: Vec<String>,
    /// N names to show below the images, for instance of their files. May be empty.
    pub names: Vec<String>,
    pub drawing: Drawing,
}

impl Learner {
    /// Maps of images, with this model's prefix tokens. The images are bytes, [N, I, I] in grey or [N, C, I, I], or the
    /// model's input in float32, see [`Preprocessing::input`](crate::data::Preprocessing::input). `progress` gets the number of images done.
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
        if method.has_query() {
            self.network.check_query(heatmap.query)?;
        }
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
        let (maps, grids) = (joined(&maps)?, joined(&grids)?);
        let classes = if self.has_class_head() { self.class_names() } else { Vec::new() };
        let drawing = Drawing { upsample: heatmap.upsample, ..Drawing::default() };
        Ok(Explanation { maps, grids, predicted, classes, names: Vec::new(), drawing })
    }

    /// A page about one image: where each token looks, by layer and head, and rolled out with `options`. `figure` stands
    /// where scripts don't run. The image is bytes, [I, I] or [C, I, I], or the model's input in float32 [C, I, I].
    ///
    /// # Errors
    /// Fails as [`Learner::explain`] does.
    pub fn explore(&self, title: &str, image: &Tensor, options: &Rollout, figure: &Figure) -> Result<Explorer> {
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
            figure: figure.clone(),
        })
    }
}

impl Explanation {
    /// Pairs of image and map over it, three in a row, or fewer of large photographs. The captions name the image, if it has
    /// a name, and the predicted class, and the true one where `labels` has another. `images` are bytes, [N, I, I] or
    /// [N, C, I, I], and aren't shown where there are [`Drawing::photographs`]; `scale` is the one that the maps were
    /// made with.
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
        let colors = colors(&maps);
        let mut tiles = Vec::new();
        for (i, map) in maps.into_iter().enumerate() {
            let class = self.caption(i, labels);
            let (below_image, below_map) = match self.names.get(i) {
                Some(name) => (name.clone(), class),
                None => (class, String::new()),
            };
            let tile = self.drawing.picture(images, i, below_image)?;
            tiles.push(tile.clone());
            tiles.push(self.drawing.under(Tile { caption: below_map, ..tile }, i, map, colors));
        }
        let (columns, bar) = (columns(&tiles), Some(self.drawing.bar(colors, scale)));
        Ok(Grid { title: title.into(), columns, tiles, bar, ..Grid::default() })
    }

    /// The predicted class of an image, and the true one if it is another.
    fn caption(&self, image: usize, labels: Option<&[i64]>) -> String {
        if self.classes.is_empty() {
            return String::new();
        }
        let name = |class: i64| self.classes.get(class as usize).map_or("?", String::as_str);
        let class = self.predicted[image];
        match labels.map(|labels| labels[image]) {
            Some(label) if label != class => format!("{} (is {})", name(class), name(label)),
            _ => name(class).to_string(),
        }
    }
}

/// The columns of a grid of pairs: fewer for wide pictures, so that their pixels are seen.
fn columns(tiles: &[Tile]) -> usize {
    let widest = tiles.iter().map(|tile| tile.image.ncols()).max().unwrap_or(0);
    let most = match (widest, tiles.len()) {
        (..=WIDE, _) => 6,
        (_, ..=4) => 2,
        _ => 4,
    };
    tiles.len().min(most)
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
