//! FashionMNIST as bytes, without libtorch.
//!
//! | module | purpose |
//! |---|---|
//! | [`source`] | finds the data set on this machine, verifies it and reads its splits |
//! | [`files`] | names, checksums and classes of the data set |
//! | [`known`] | recognises data sets of the MNIST family by their checksums |
//! | [`download`] | fetches it over HTTP and resumes an interrupted download |
//! | [`idx`] | reads and writes the IDX file format of the MNIST family |
//! | [`synthetic`] | draws a stand-in for tests and trials |
//! | [`mod@file`] | writes files atomically |
//! | [`checksum`] | MD5 as hexadecimal text |
//! | [`cache`] | locates the cache folder |
//! | [`pretrained`] | locates the pre-trained model and the photographs in it |
//! | [`machine`] | names the processor |
//! | [`duration`] | formats durations |

pub mod cache;
pub mod checksum;
pub mod download;
pub mod duration;
pub mod error;
pub mod file;
pub mod files;
mod folder;
pub mod idx;
pub mod known;
pub mod machine;
pub mod pretrained;
pub mod source;
pub mod synthetic;

pub use error::{Error, Result};
pub use files::{CLASSES, FILES, Images, SIDE, Split};
pub use source::Source;
