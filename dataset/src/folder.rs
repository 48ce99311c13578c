//! The files of a data set in a folder, under any of the names that its distributors give them.
//!
//! Accepted for `train-images-idx3-ubyte`: a `.gz` after it, a dot instead of the second dash, a prefix that ends in a dash
//! (`emnist-digits-train-images-idx3-ubyte`), and a folder of the same name around the file. EMNIST's test files say
//! `test` instead of `t10k`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::{FILES, Split};
use crate::{Error, Result};

/// The files of one data set. `location` is the folder, or one file in it.
pub(crate) struct Folder {
    pub path: PathBuf,
    /// In the order of [`FILES`]; `None` for a missing one.
    pub files: [Option<PathBuf>; 4],
}

/// The part of a file name before the file's usual name, and the file's index in [`FILES`].
#[derive(Debug, PartialEq, Eq)]
struct Name {
    prefix: String,
    file: usize,
}

impl Name {
    fn parse(name: &str) -> Option<Name> {
        let plain = name.strip_suffix(".gz").unwrap_or(name).replace(".idx", "-idx");
        FILES.iter().enumerate().find_map(|(file, known)| {
            let prefix = plain
                .strip_suffix(known.name)
                .or_else(|| plain.strip_suffix(known.name.replace("t10k", "test").as_str()))?;
            let prefix = prefix.to_string();
            (prefix.is_empty() || prefix.ends_with(['-', '_'])).then_some(Name { prefix, file })
        })
    }

    fn of(path: &Path) -> Option<Name> {
        Name::parse(path.file_name()?.to_str()?)
    }
}

impl Folder {
    /// # Errors
    /// Fails if `location` doesn't exist, can't be read, is a file with another name, or holds several data sets.
    pub fn open(location: &Path) -> Result<Self> {
        let (path, wanted) = folder_and_prefix(location)?;
        let mut sets = data_sets(&path)?;
        let prefix = match wanted {
            Some(prefix) => prefix,
            None if sets.contains_key("") || sets.is_empty() => String::new(),
            None if sets.len() == 1 => sets.keys().next().expect("there is one").clone(),
            None => {
                let names: Vec<&str> = sets.keys().map(|prefix| prefix.trim_end_matches(['-', '_'])).collect();
                let example = sets.values().flatten().flatten().next().expect("a set has a file").display();
                let problem =
                    format!("holds several data sets ({}); name a file of one of them, as {example}", names.join(", "));
                return Err(Error::file(path, problem));
            }
        };
        Ok(Folder { files: sets.remove(&prefix).unwrap_or_default(), path })
    }

    /// Names of the missing files.
    pub fn missing(&self) -> Vec<&'static str> {
        let files = FILES.iter().zip(&self.files);
        files.filter(|(_, path)| path.is_none()).map(|(file, _)| file.name).collect()
    }

    /// Returns true if no file of a data set was found.
    pub fn is_empty(&self) -> bool {
        self.files.iter().all(Option::is_none)
    }

    /// Checks that all four files are there.
    ///
    /// # Errors
    /// Names the missing ones.
    pub fn check_complete(&self) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() { Ok(()) } else { Err(self.lacks(&missing)) }
    }

    /// Checks that the images and labels of at least one split are there.
    ///
    /// # Errors
    /// Names all missing files.
    pub fn check_a_split(&self) -> Result<()> {
        match self.split(Split::Train).or_else(|_| self.split(Split::Test)) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.lacks(&self.missing())),
        }
    }

    /// Files of the images and of the labels.
    ///
    /// # Errors
    /// Names those that are missing.
    pub fn split(&self, split: Split) -> Result<[&Path; 2]> {
        let first = split.first_file();
        match &self.files[first..first + 2] {
            [Some(images), Some(labels)] => Ok([images, labels]),
            files => {
                let names = FILES[first..].iter().zip(files);
                let missing: Vec<_> = names.filter(|(_, path)| path.is_none()).map(|(file, _)| file.name).collect();
                Err(self.lacks(&missing))
            }
        }
    }

    fn lacks(&self, files: &[&str]) -> Error {
        let problem =
            format!("has no {} (plain or .gz); run `cargo lab setup` or name another folder", files.join(", "));
        Error::file(&self.path, problem)
    }
}

/// The folder at `location` or around it, and the prefix that the user chose by naming a file.
fn folder_and_prefix(location: &Path) -> Result<(PathBuf, Option<String>)> {
    let Ok(metadata) = std::fs::metadata(location) else {
        return Err(Error::file(location, "doesn't exist; name a folder with FashionMNIST's four files"));
    };
    let name = Name::of(location);
    if metadata.is_dir() {
        let is_around_its_file = location.file_name().is_some_and(|name| location.join(name).is_file());
        return Ok(match name.filter(|_| is_around_its_file) {
            Some(name) => (parent(location), Some(name.prefix)),
            None => (location.to_path_buf(), None),
        });
    }
    let Some(Name { prefix, .. }) = name.filter(|_| metadata.is_file()) else {
        let problem = "is neither a folder nor one of the four files of a data set (train-images-idx3-ubyte, …); \
                       name the folder with FashionMNIST's four files";
        return Err(Error::file(location, problem));
    };
    let folder = parent(location);
    let is_around_its_file = folder.file_name() == location.file_name();
    Ok((if is_around_its_file { parent(&folder) } else { folder }, Some(prefix)))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The files of each data set in `folder`, by the prefix of their names.
fn data_sets(folder: &Path) -> Result<BTreeMap<String, [Option<PathBuf>; 4]>> {
    let unreadable = |error| Error::file(folder, format!("can't be read ({error}); name a folder that is readable"));
    let mut sets: BTreeMap<String, [Option<PathBuf>; 4]> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let mut path = entry.path();
        let Some(Name { prefix, file }) = Name::of(&path) else { continue };
        if path.is_dir() {
            path.push(entry.file_name());
        }
        if path.exists() {
            let known = &mut sets.entry(prefix).or_default()[file];
            if known.as_ref().is_none_or(|known| rank(&path) < rank(known)) {
                *known = Some(path);
            }
        }
    }
    Ok(sets)
}

/// Prefers the plain file, which is read faster, to the gzipped one, then the shorter path, then the usual name.
fn rank(path: &Path) -> (bool, usize, &Path) {
    (path.extension().is_some_and(|extension| extension == "gz"), path.components().count(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let parse = |name| Name::parse(name).map(|name| (name.prefix, name.file));
        let plain = |file| Some((String::new(), file));
        assert_eq!(parse("train-images-idx3-ubyte"), plain(0));
        assert_eq!(parse("train-labels.idx1-ubyte.gz"), plain(1));
        assert_eq!(parse("t10k-images-idx3-ubyte.gz"), plain(2));
        assert_eq!(parse("test-labels-idx1-ubyte"), plain(3));
        assert_eq!(parse("emnist-digits-test-images-idx3-ubyte.gz"), Some(("emnist-digits-".into(), 2)));
        for name in ["train-images-idx3-ubyte.part.gz", "xtrain-images-idx3-ubyte", "fashion-mnist_train.csv", ""] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
