//! Finds FashionMNIST on this machine, verifies its files and reads its two splits.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use crate::files::{CLASSES, DataFile, FILES, Images, SIDE, SYNTHETIC_MARK, Split};
use crate::folder::Folder;
use crate::idx::Idx;
use crate::known::{self, Known};
use crate::{Error, Result, cache, checksum, idx, synthetic};

/// Folder of the files below a data root, as torchvision lays it out.
const RAW: &str = "FashionMNIST/raw";
/// Further places of the files below a chosen folder: torchvision's other data sets, and EMNIST's archive as it unpacks.
const BELOW: [&str; 6] = [RAW, "fmnist/FashionMNIST/raw", "MNIST/raw", "KMNIST/raw", "EMNIST/raw", "gzip"];
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
/// Contents of the [`FILES`], in words.
const CONTENTS: [&str; 4] = ["training images", "training labels", "test images", "test labels"];
/// Environment variable that names a data folder, or holds the word `synthetic`.
pub const VARIABLE: &str = "VITLAB_DATA";

/// Where the images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder that holds the four [`FILES`], plain or gzipped, or one of them in a folder of several data sets.
    Folder(PathBuf),
    /// Images that [`synthetic`] draws, a stand-in for tests and trials.
    Synthetic,
}

impl Source {
    /// Returns true if the images are generated: drawn in memory, or written to a folder earlier.
    pub fn is_synthetic(&self) -> bool {
        let marked = |folder: &Path| folder.join(SYNTHETIC_MARK).exists();
        match self {
            Source::Synthetic => true,
            Source::Folder(location) if location.is_dir() => marked(location),
            Source::Folder(file) => file.parent().is_some_and(marked),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Source::Folder(folder) if self.is_synthetic() => {
                write!(f, "{} (synthetic stand-in)", folder.display())
            }
            Source::Folder(folder) => write!(f, "{}", folder.display()),
            Source::Synthetic => f.write_str("synthetic stand-in"),
        }
    }
}

/// Finds FashionMNIST. The first of these decides: `explicit` (a folder, or `synthetic`), the variable `VITLAB_DATA`
/// (the same), `data/fmnist` in the working directory or above it, the Debian package's folder, [`cache_folder`].
///
/// A folder may hold the files itself or be a torchvision root above them. An explicit choice may also be one of the
/// files, and may hold the training set or the test set alone. Which data set it is, [`read`] finds out.
///
/// # Errors
/// Fails if an explicit choice doesn't hold the data. If nothing is found, the message lists the folders tried and the
/// three remedies.
pub fn find(explicit: Option<&str>) -> Result<Source> {
    let variable = std::env::var(VARIABLE).ok();
    let working = std::env::current_dir().unwrap_or_default();
    search(explicit, variable.as_deref(), &working, &[DEBIAN.into(), cache_folder()])
}

fn search(explicit: Option<&str>, variable: Option<&str>, working: &Path, others: &[PathBuf]) -> Result<Source> {
    if let Some(choice) = explicit {
        return chosen(choice);
    }
    if let Some(choice) = variable.filter(|value| !value.is_empty()) {
        return chosen(choice).map_err(|error| Error::argument(format!("{VARIABLE} is set to {choice}, but {error}")));
    }
    let nearby = working.ancestors().map(|folder| folder.join("data/fmnist").join(RAW));
    let mut tried = String::new();
    for folder in nearby.chain(others.iter().cloned()) {
        match check_folder(&folder) {
            Ok(()) => return Ok(Source::Folder(folder)),
            Err(_) if !folder.exists() => _ = write!(tried, "\n  {}: doesn't exist", folder.display()),
            Err(error) => _ = write!(tried, "\n  {error}"),
        }
    }
    Err(Error::argument(format!(
        "FashionMNIST was not found. Tried:{tried}\nThree remedies: run `cargo lab setup`, which downloads it; install \
         Debian's package dataset-fashion-mnist; or name a folder with --data DIR or {VARIABLE} (`synthetic` instead \
         of a folder selects a generated stand-in)."
    )))
}

fn chosen(choice: &str) -> Result<Source> {
    if choice == "synthetic" {
        return Ok(Source::Synthetic);
    }
    let mut location = PathBuf::from(choice);
    let mut folder = Folder::open(&location)?;
    if folder.is_empty()
        && let Some(below) = BELOW.iter().map(|below| location.join(below)).find(|below| below.is_dir())
    {
        folder = Folder::open(&below)?;
        location = below;
    }
    folder.check_a_split()?;
    Ok(Source::Folder(location))
}

/// Folder of a downloaded FashionMNIST, in torchvision's layout below [`cache::folder`].
pub fn cache_folder() -> PathBuf {
    cache::folder().join("data/fmnist").join(RAW)
}

/// Checks that `folder` holds the four files, without reading them.
///
/// # Errors
/// Names the missing files, or says that `folder` is missing or not a folder.
pub fn check_folder(folder: &Path) -> Result<()> {
    Folder::open(folder)?.check_complete()
}

/// Verifies the checksums of a folder's four files. Names and shapes are not enough: MNIST's files have the same.
///
/// # Errors
/// Names the first file that is damaged or belongs to another data set.
pub fn verify_folder(folder: &Path) -> Result<()> {
    let folder = Folder::open(folder)?;
    folder.check_complete()?;
    folder.files.iter().flatten().zip(&FILES).try_for_each(|(path, file)| verify(path, file))
}

/// Verifies the checksum of `path`, plain or gzipped, against `file`.
///
/// # Errors
/// Fails if the file is missing, damaged, or has other content.
pub fn verify(path: &Path, file: &DataFile) -> Result<()> {
    let found = checksum::md5(idx::content(path)?).map_err(|error| idx::unreadable(path, error))?;
    if found == file.md5 {
        return Ok(());
    }
    let problem = match known::recognise(path, &found)? {
        Some(Known { set, .. }) if set != known::FASHION_MNIST => {
            format!("belongs to {set}, not to FashionMNIST; name a folder with FashionMNIST's files")
        }
        _ => format!(
            "is not FashionMNIST's {} (md5 of the content {found}, expected {}); delete it and run `cargo lab setup`",
            file.name, file.md5
        ),
    };
    Err(Error::file(path, problem))
}

/// Reads one split and checks it: images of 28 × 28 pixels, one label for each, each label a class.
///
/// # Errors
/// Names the file that is missing, damaged, mislabelled, of another shape or from another set.
pub fn read(source: &Source, split: Split) -> Result<Images> {
    match source {
        Source::Folder(location) => read_folder(source, location, split),
        Source::Synthetic => Ok(synthetic::split(split)),
    }
}

fn read_folder(source: &Source, location: &Path, split: Split) -> Result<Images> {
    let folder = Folder::open(location)?;
    let [images_path, labels_path] = folder.split(split)?;
    check_not_swapped(&folder)?;

    let images = idx::read(images_path)?;
    match images.dims[..] {
        [_, SIDE, SIDE] => {}
        [_] => return Err(mislabelled(images_path, "labels", "images")),
        _ => {
            let problem =
                format!("has shape {:?}, images of [N, {SIDE}, {SIDE}] are needed; take FashionMNIST's", images.dims);
            return Err(Error::file(images_path, problem));
        }
    }
    let labels = idx::read(labels_path)?;
    match labels.dims[..] {
        [_] => {}
        [_, _, _] => return Err(mislabelled(labels_path, "images", "labels")),
        _ => {
            let problem = format!("has shape {:?}, labels of [N] are needed; take FashionMNIST's", labels.dims);
            return Err(Error::file(labels_path, problem));
        }
    }
    let (n, n_labels) = (images.dims[0], labels.dims[0]);
    if n != n_labels {
        let problem = format!(
            "has {n_labels} labels for the {n} images of {}; the two belong to different sets, run `cargo lab setup` for \
             a matching pair",
            images_path.display()
        );
        return Err(Error::file(labels_path, problem));
    }
    if n == 0 {
        return Err(Error::file(images_path, "has no images; run `cargo lab setup` to fetch FashionMNIST"));
    }
    if let Some(position) = labels.bytes.iter().position(|&label| usize::from(label) >= CLASSES.len()) {
        let label = labels.bytes[position];
        let problem = format!(
            "label {label} at position {position} is none of the classes 0 to 9; take a data set of ten classes, as \
             FashionMNIST, MNIST, KMNIST or EMNIST Digits"
        );
        return Err(Error::file(labels_path, problem));
    }
    let dataset = identity(source, split, [(images_path, &images), (labels_path, &labels)])?;
    Ok(Images { images: images.bytes, labels: labels.bytes, dataset })
}

/// Name of the data set that the files of images and labels belong to.
fn identity(source: &Source, split: Split, files: [(&Path, &Idx); 2]) -> Result<String> {
    let [images, labels] = files.map(|(_, content)| content.md5());
    let md5 = [images?, labels?];
    let own = &checksum::md5(md5.concat().as_bytes()).expect("reading from memory succeeds")[..8];
    if source.is_synthetic() {
        return Ok(format!("{} {own}", known::SYNTHETIC));
    }
    let mut recognised = [None; 2];
    for (i, (path, _)) in files.into_iter().enumerate() {
        recognised[i] = known::recognise(path, &md5[i])?;
        let expected = split.first_file() + i;
        if let Some(Known { set, file }) = recognised[i].filter(|known| known.file != expected) {
            let [found, wanted] = [file, expected].map(|file| CONTENTS[file]);
            return Err(mislabelled(path, &format!("{set}'s {found}"), &format!("the {wanted}")));
        }
    }
    let [images, labels] = recognised.map(|known| known.map(|known| known.set));
    match (images, labels) {
        (Some(images), Some(labels)) if images == labels => Ok(images.to_string()),
        (Some(images), Some(labels)) => {
            let problem = format!("has the labels of {labels} for the images of {images}; take both from one data set");
            Err(Error::file(files[1].0, problem))
        }
        (Some(set), None) => Ok(format!("unknown data set {own} (images of {set}, other labels)")),
        (None, Some(set)) => Ok(format!("unknown data set {own} (labels of {set}, other images)")),
        (None, None) => Ok(format!("unknown data set {own}")),
    }
}

/// Detects test files under the training files' names, which would train on a sixth of the data without a warning.
fn check_not_swapped(folder: &Folder) -> Result<()> {
    let [Some(train), _, Some(test), _] = &folder.files else { return Ok(()) };
    let (n_train, n_test) = (idx::read_dims(train)?, idx::read_dims(test)?);
    if n_train.first() == Some(&10_000) && n_test.first() == Some(&60_000) {
        return Err(mislabelled(train, "the 10,000 test images", "the 60,000 training images"));
    }
    Ok(())
}

fn mislabelled(path: &Path, found: &str, expected: &str) -> Error {
    let problem =
        format!("is mislabelled: it holds {found} where {expected} belong; rename the files or run `cargo lab setup`");
    Error::file(path, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with_files(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for file in FILES {
            std::fs::write(folder.join(file.name), "not read").unwrap();
        }
    }

    #[test]
    fn order_of_the_search() {
        let root = tempfile::tempdir().unwrap();
        let [working, debian, cache] = ["clone/notebooks", "debian", "cache"].map(|name| root.path().join(name));
        let others = [debian.clone(), cache.clone()];
        std::fs::create_dir_all(&working).unwrap();
        let find = |explicit, variable| search(explicit, variable, &working, &others);

        let message = find(None, None).unwrap_err().to_string();
        for part in [
            "clone/data/fmnist/FashionMNIST/raw",
            "debian",
            "cache",
            "cargo lab setup",
            "dataset-fashion-mnist",
            "--data",
            VARIABLE,
        ] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }

        folder_with_files(&cache);
        assert_eq!(find(None, None).unwrap(), Source::Folder(cache));
        folder_with_files(&debian);
        assert_eq!(find(None, None).unwrap(), Source::Folder(debian.clone()));
        // Found from the clone's root although the working directory is below it, and skipped when incomplete.
        let near = root.path().join("clone/data/fmnist").join(RAW);
        folder_with_files(&near);
        assert_eq!(find(None, None).unwrap(), Source::Folder(near.clone()));
        std::fs::remove_file(near.join(FILES[3].name)).unwrap();
        assert_eq!(find(None, None).unwrap(), Source::Folder(debian.clone()));

        assert_eq!(find(None, Some("synthetic")).unwrap(), Source::Synthetic);
        assert_eq!(find(debian.to_str(), Some("synthetic")).unwrap(), Source::Folder(debian.clone()));
        let message = find(None, Some("/no/such/folder")).unwrap_err().to_string();
        assert!(message.contains(VARIABLE) && message.contains("/no/such/folder"), "{message}");
    }

    #[test]
    fn a_torchvision_root_is_accepted() {
        let root = tempfile::tempdir().unwrap();
        let raw = root.path().join(RAW);
        folder_with_files(&raw);
        assert_eq!(chosen(root.path().to_str().unwrap()).unwrap(), Source::Folder(raw.clone()));
        assert_eq!(chosen(raw.to_str().unwrap()).unwrap(), Source::Folder(raw.clone()));
        // The test set alone is enough for an evaluation.
        std::fs::remove_file(raw.join(FILES[0].name)).unwrap();
        assert_eq!(chosen(root.path().to_str().unwrap()).unwrap(), Source::Folder(raw.clone()));
        std::fs::remove_file(raw.join(FILES[3].name)).unwrap();
        let message = chosen(root.path().to_str().unwrap()).unwrap_err().to_string();
        let named = FILES.map(|file| message.contains(file.name));
        assert_eq!(named, [true, false, false, true], "{message}");
    }
}
