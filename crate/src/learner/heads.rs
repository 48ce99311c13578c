//! The attention of each head, as maps and as a figure.

use ndarray::{Array3, Array4, Axis, concatenate};

use tch::Tensor;

use super::Learner;
use super::drawing::{Drawing, colors};
use super::explanation::pipelined;
use crate::error::{Error, Result, ensure};
use crate::explain::{Heatmap, MapScale, grid_of_rows, row};
use crate::plot::{Grid, Tile};

/// Maps of each head of one layer.
#[derive(Debug)]
pub struct HeadMaps {
    /// [N, H, I, I]
    pub maps: Array4<f32>,
    /// The maps before they were upsampled and scaled, [N, H, 7, 7] for 49 patches.
    pub grids: Array4<f32>,
    /// N names to show below the images, for instance of their files. May be empty.
    pub names: Vec<String>,
    pub drawing: Drawing,
}

/// The most columns of a figure of one image.
const COLUMNS: usize = 7;

impl Learner {
    /// Maps of the attention that the query pays in each head of a layer, the last one if `None`; as
    /// [`Method::Attention`](super::Method::Attention), for all heads in one pass.
    ///
    /// # Errors
    /// Fails as [`Learner::explain`] does.
    pub fn explain_heads(
        &self,
        images: &Tensor,
        layer: Option<usize>,
        heatmap: &Heatmap,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<HeadMaps> {
        let prefix_tokens = self.network.prefix_tokens()?;
        self.network.check_query(heatmap.query)?;
        let heatmap = Heatmap { prefix_tokens, image_size: self.network.image().1, ..heatmap.clone() };
        let batches = images.f_split(self.batch_size(), 0)?;
        let rows = batches.iter().map(|batch| {
            let (attention, _) = self.attention_of_layer(&self.preprocessing.input(batch)?, layer)?; // [B, H, S, S]
            let heads = attention.size()[1];
            Ok((row(&attention.flatten(0, 1), heatmap.query, prefix_tokens)?, heads)) // -> [B · H, S, S] -> [B · H, S]
        });
        let mut done = 0;
        let parts = pipelined(rows, |(rows, heads)| {
            let (maps, grids) = (heatmap.maps_of_rows(&rows)?, grid_of_rows(&rows, prefix_tokens)?);
            done += maps.dim().0 / heads as usize;
            progress(done);
            Ok((by_head(maps, heads as usize), by_head(grids, heads as usize)))
        })?;
        let (maps, grids): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let drawing = Drawing { upsample: heatmap.upsample, ..Drawing::default() };
        Ok(HeadMaps { maps: joined(&maps)?, grids: joined(&grids)?, names: Vec::new(), drawing })
    }
}

/// [B · H, h, w] -> [B, H, h, w]
fn by_head(maps: Array3<f32>, heads: usize) -> Array4<f32> {
    let (count, rows, columns) = maps.dim();
    maps.into_shape_with_order((count / heads, heads, rows, columns)).expect("each image has a map per head")
}

fn joined(batches: &[Array4<f32>]) -> Result<Array4<f32>> {
    let views: Vec<_> = batches.iter().map(Array4::view).collect();
    concatenate(Axis(0), &views).map_err(|_| Error::argument("there are no images; give at least one"))
}

impl HeadMaps {
    /// Each image with one map per head: an image and its maps in a row, or the maps of a single image in rows of seven.
    /// `images` are bytes, [N, I, I] or [N, C, I, I]; `scale` is the one that the maps were made with.
    ///
    /// # Errors
    /// Another number of images than of maps, or more heads than a row has room for.
    pub fn grid(&self, title: &str, images: &Tensor, scale: MapScale) -> Result<Grid> {
        let (count, heads, ..) = self.maps.dim();
        ensure!(images.size()[0] as usize == count, "give {count} images: there are maps of {count}");
        let maps =
            self.maps.outer_iter().flat_map(|image| image.outer_iter().map(|map| map.to_owned()).collect::<Vec<_>>());
        let maps: Vec<_> = maps.collect();
        let colors = colors(&maps);
        let mut tiles = Vec::new();
        for (i, maps) in maps.chunks(heads).enumerate() {
            let tile = self.drawing.picture(images, i, self.names.get(i).cloned().unwrap_or_default())?;
            tiles.push(tile.clone());
            for (head, map) in maps.iter().enumerate() {
                let tile = Tile { caption: format!("head {head}"), ..tile.clone() };
                tiles.push(self.drawing.under(tile, i, map.clone(), colors));
            }
        }
        let columns = if count == 1 { tiles.len().min(COLUMNS) } else { 1 + heads };
        let bar = Some(self.drawing.bar(colors, scale));
        Ok(Grid { title: title.into(), columns, tiles, bar, ..Grid::default() })
    }
}
