//! FashionMNIST as tensors: reading, augmenting and batching. The package `vitlab-dataset` finds and reads the files.

mod augment;
mod dataset;
mod garment;
mod grid;
mod mixing;
mod photograph;
mod pictures;
mod preprocessing;
mod resize;

pub use augment::{augment, seed_everything, shuffled, view};
pub use dataset::{Dataset, FashionMnist, Origin, normalise};
pub use mixing::{cutmix, erase, mixup, rectangles};
pub use photograph::{Photograph, Placement};
pub use pictures::{Picture, picture_files};
pub use preprocessing::{Filter, Fit, Invert, Prepared, Preprocessing};
pub use vitlab_dataset::{CLASSES, SIDE, Source, Split, pretrained, source};
