//! The pre-trained model and the photographs that `cargo lab setup --pretrained` puts into the cache folder.

use std::path::{Path, PathBuf};

use crate::{Error, Result, cache};

/// A folder below `pretrained` in the cache folder. It appears there only when it is complete.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    pub name: &'static str,
    /// The files that it must hold.
    pub files: &'static [&'static str],
}

/// DINOv2's ViT-S/14 (arXiv 2304.07193), in Hugging Face's layout.
pub const MODEL: Asset =
    Asset { name: "dinov2-small", files: &["model.safetensors", "config.json", "preprocessor_config.json"] };

/// Photographs that are free of rights, from scikit-image. Their README.md names sources and licences.
pub const PHOTOGRAPHS: Asset =
    Asset { name: "photographs", files: &["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"] };

impl Asset {
    /// Returns the place of the folder in a cache folder.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join("pretrained").join(self.name)
    }

    /// Returns true if all files are in a cache folder.
    pub fn is_in(&self, cache: &Path) -> bool {
        self.files.iter().all(|name| self.folder(cache).join(name).is_file())
    }

    /// Returns the folder in this user's cache folder.
    ///
    /// # Errors
    /// Fails if it isn't there. The message says how to get it.
    pub fn find(&self) -> Result<PathBuf> {
        let cache = cache::folder();
        if self.is_in(&cache) {
            return Ok(self.folder(&cache));
        }
        Err(Error::file(self.folder(&cache), "isn't there; `cargo lab setup --pretrained` gets it"))
    }
}

/// Returns the folder of [`MODEL`], which `Learner::open` reads.
///
/// # Errors
/// Fails if it isn't in the cache folder. The message says how to get it.
pub fn model() -> Result<PathBuf> {
    MODEL.find()
}

/// Returns the file of a photograph by its name without the ending: astronaut, chelsea (a cat), coffee or rocket.
///
/// # Errors
/// Fails if there is no photograph of that name, or if the photographs aren't in the cache folder.
pub fn photograph(name: &str) -> Result<PathBuf> {
    let stem = |file: &'static str| file.split_once('.').map_or(file, |(stem, _)| stem);
    match PHOTOGRAPHS.files.iter().find(|file| stem(file) == name) {
        Some(file) => Ok(PHOTOGRAPHS.find()?.join(file)),
        None => {
            let names: Vec<&str> = PHOTOGRAPHS.files.iter().map(|file| stem(file)).collect();
            Err(Error::argument(format!("there is no photograph \"{name}\"; there are {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_counts_with_all_its_files() {
        let cache = tempfile::tempdir().unwrap();
        let folder = PHOTOGRAPHS.folder(cache.path());
        std::fs::create_dir_all(&folder).unwrap();
        for (index, name) in PHOTOGRAPHS.files.iter().enumerate() {
            assert!(!PHOTOGRAPHS.is_in(cache.path()), "{index} files");
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert!(PHOTOGRAPHS.is_in(cache.path()));
    }

    #[test]
    fn an_unknown_photograph_is_told_the_known_ones() {
        let error = photograph("dog").unwrap_err().to_string();
        assert_eq!(error, "there is no photograph \"dog\"; there are astronaut, chelsea, coffee, rocket");
    }
}
