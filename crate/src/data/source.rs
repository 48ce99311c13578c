//! Where FashionMNIST lies on this machine, and its two splits as bytes.

use std::fmt;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::{idx, synthetic};
use crate::{Error, Result};

/// The official class names; a label is an index into this list.
pub const CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Height and width of an image in pixels.
pub const SIDE: usize = 28;

/// torchvision's layout below a data root.
const RAW: &str = "FashionMNIST/raw";
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
/// Stands in a folder whose files were generated, so that they can't pass for the real data set.
pub const SYNTHETIC_MARK: &str = "SYNTHETIC";
/// Environment variable with a data folder or the word `synthetic`.
pub const VARIABLE: &str = "VITLAB_DATA";

/// Where the images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder with the four [`FILES`], plain or gzipped.
    Folder(PathBuf),
    /// Images drawn by [`synthetic`]: a stand-in for tests and trials.
    Synthetic,
}

impl Source {
    /// Whether the images are generated: drawn in memory, or written to a folder earlier.
    pub fn is_synthetic(&self) -> bool {
        match self {
            Source::Synthetic => true,
            Source::Folder(folder) => folder.join(SYNTHETIC_MARK).exists(),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

impl Split {
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "training",
            Split::Test => "test",
        }
    }

    fn files(self) -> (&'static File, &'static File) {
        match self {
            Split::Train => (&FILES[0], &FILES[1]),
            Split::Test => (&FILES[2], &FILES[3]),
        }
    }
}

/// One file of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Without `.gz`.
    pub name: &'static str,
    /// Of the uncompressed content, because archives of the same content differ between distributors.
    pub md5: &'static str,
}

/// Images and labels of both splits.
pub const FILES: [File; 4] = [
    File { name: "train-images-idx3-ubyte", md5: "f4a8712d7a061bf5bd6d2ca38dc4d50a" },
    File { name: "train-labels-idx1-ubyte", md5: "9018921c3c673c538a1fc5bad174d6f9" },
    File { name: "t10k-images-idx3-ubyte", md5: "8181f5470baa50b63fa0f6fddb340f0a" },
    File { name: "t10k-labels-idx1-ubyte", md5: "15d484375f8d13e6eb1aabb0c3f46965" },
];

/// One split, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// [N, 28, 28], row by row; 0 is the black background
    pub images: Vec<u8>,
    /// [N], indices into [`CLASSES`]
    pub labels: Vec<u8>,
}

/// Looks for FashionMNIST: `explicit` (a folder, or `synthetic`), else the variable `VITLAB_DATA` (the same), else
/// `data/fmnist` from the working directory upwards, the Debian package's folder, and [`cache_folder`].
///
/// A folder may be the one with the files or a torchvision root above it.
///
/// # Errors
/// An explicit choice that doesn't hold the data is an error, never passed over. When nothing is found, the message
/// lists what was tried and the ways out.
pub fn find(explicit: Option<&str>) -> Result<Source> {
    let variable = std::env::var(VARIABLE).ok();
    let working = std::env::current_dir().unwrap_or_default();
    search(explicit, variable.as_deref(), &working, &[PathBuf::from(DEBIAN), cache_folder()])
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
        "FashionMNIST was not found. Tried:{tried}\nThree ways out: run `cargo lab setup`, which fetches it; install \
         Debian's package dataset-fashion-mnist; or name a folder with --data DIR or {VARIABLE} (`synthetic` instead \
         of a folder takes a generated stand-in)."
    )))
}

fn chosen(choice: &str) -> Result<Source> {
    if choice == "synthetic" {
        return Ok(Source::Synthetic);
    }
    let folder = PathBuf::from(choice);
    let below = [folder.join(RAW), folder.join("fmnist").join(RAW)];
    match below.into_iter().find(|raw| raw.is_dir()) {
        Some(raw) if missing(&folder).len() == FILES.len() => check_folder(&raw).map(|()| Source::Folder(raw)),
        _ => check_folder(&folder).map(|()| Source::Folder(folder)),
    }
}

/// The folder that keeps what is expensive, once per user: `VITLAB_HOME`, else `vitlab` in the user's cache folder.
pub fn home() -> PathBuf {
    match std::env::var_os("VITLAB_HOME").filter(|value| !value.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("vitlab"),
    }
}

/// Where set-up puts a downloaded FashionMNIST, in torchvision's layout below [`home`].
pub fn cache_folder() -> PathBuf {
    home().join("data/fmnist").join(RAW)
}

/// Whether the four files are in `folder`; their content is looked at by [`read`] and [`verify`].
pub fn check_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Err(Error::file(folder, "doesn't exist; name a folder with FashionMNIST's four files"));
    }
    if !folder.is_dir() {
        return Err(Error::file(folder, "is not a folder; name the folder with FashionMNIST's four files"));
    }
    let missing = missing(folder);
    if missing.is_empty() {
        return Ok(());
    }
    let problem = format!("has no {} (plain or .gz); run `cargo lab setup` or name another folder", missing.join(", "));
    Err(Error::file(folder, problem))
}

/// Checks that a folder's four files are FashionMNIST's to the byte: MNIST's own have the same names and shapes.
///
/// # Errors
/// The first file that is damaged or another data set's.
pub fn verify_folder(folder: &Path) -> Result<()> {
    check_folder(folder)?;
    FILES.iter().try_for_each(|file| verify(&locate(folder, file), file))
}

fn missing(folder: &Path) -> Vec<&'static str> {
    let absent = |file: &&File| !locate(folder, file).exists();
    FILES.iter().filter(absent).map(|file| file.name).collect()
}

/// The plain file if there is one, as it is read faster, else the gzipped one.
fn locate(folder: &Path, file: &File) -> PathBuf {
    let plain = folder.join(file.name);
    if plain.exists() { plain } else { folder.join(format!("{}.gz", file.name)) }
}

/// Checks that `path`, plain or gzipped, holds exactly what `file` should.
pub fn verify(path: &Path, file: &File) -> Result<()> {
    let mut content = idx::content(path)?;
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer).map_err(|error| idx::unreadable(path, error))? {
            0 => break,
            count => md5.update(&buffer[..count]),
        }
    }
    let found = md5.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if found == file.md5 {
        return Ok(());
    }
    let problem = format!(
        "is not FashionMNIST's {} (md5 of the content {found}, expected {}); delete it and run `cargo lab setup`",
        file.name, file.md5
    );
    Err(Error::file(path, problem))
}

/// Reads one split: images of 28 × 28, as many labels, each label a class.
pub fn read(source: &Source, split: Split) -> Result<Images> {
    match source {
        Source::Folder(folder) => read_folder(folder, split),
        Source::Synthetic => Ok(synthetic::split(split)),
    }
}

fn read_folder(folder: &Path, split: Split) -> Result<Images> {
    check_folder(folder)?;
    let (images_file, labels_file) = split.files();
    let (images_path, labels_path) = (locate(folder, images_file), locate(folder, labels_file));
    check_not_swapped(folder)?;

    let images = idx::read(&images_path)?;
    match images.dims[..] {
        [_, SIDE, SIDE] => {}
        [_] => return Err(mislabelled(&images_path, "labels", "images")),
        _ => {
            let problem =
                format!("has shape {:?}, images of [N, {SIDE}, {SIDE}] are needed; take FashionMNIST's", images.dims);
            return Err(Error::file(&images_path, problem));
        }
    }
    let labels = idx::read(&labels_path)?;
    match labels.dims[..] {
        [_] => {}
        [_, _, _] => return Err(mislabelled(&labels_path, "images", "labels")),
        _ => {
            let problem = format!("has shape {:?}, labels of [N] are needed; take FashionMNIST's", labels.dims);
            return Err(Error::file(&labels_path, problem));
        }
    }
    let (n, n_labels) = (images.dims[0], labels.dims[0]);
    if n != n_labels {
        let problem = format!(
            "has {n_labels} labels for the {n} images of {}; the two belong to different sets, run `cargo lab setup` for \
             a matching pair",
            images_path.display()
        );
        return Err(Error::file(&labels_path, problem));
    }
    if n == 0 {
        return Err(Error::file(&images_path, "has no images; run `cargo lab setup` to fetch FashionMNIST"));
    }
    if let Some(position) = labels.bytes.iter().position(|&label| usize::from(label) >= CLASSES.len()) {
        let label = labels.bytes[position];
        let problem =
            format!("label {label} at position {position} is none of the classes 0 to 9; take FashionMNIST's file");
        return Err(Error::file(&labels_path, problem));
    }
    Ok(Images { images: images.bytes, labels: labels.bytes })
}

/// FashionMNIST with the test files under the training files' names would train on a sixth of the data unnoticed.
fn check_not_swapped(folder: &Path) -> Result<()> {
    let train = locate(folder, &FILES[0]);
    let test = locate(folder, &FILES[2]);
    let (n_train, n_test) = (idx::read_dims(&train)?, idx::read_dims(&test)?);
    if n_train.first() == Some(&10_000) && n_test.first() == Some(&60_000) {
        return Err(mislabelled(&train, "the 10,000 test images", "the 60,000 training images"));
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
            std::fs::write(folder.join(file.name), "content is not looked at").unwrap();
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
        // Found from the clone's root although the working directory is below it, and passed over when incomplete.
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
    fn a_torchvision_root_will_do() {
        let root = tempfile::tempdir().unwrap();
        let raw = root.path().join(RAW);
        folder_with_files(&raw);
        assert_eq!(chosen(root.path().to_str().unwrap()).unwrap(), Source::Folder(raw.clone()));
        assert_eq!(chosen(raw.to_str().unwrap()).unwrap(), Source::Folder(raw.clone()));
        std::fs::remove_file(raw.join(FILES[0].name)).unwrap();
        let message = chosen(root.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(message.contains(FILES[0].name) && !message.contains(FILES[1].name), "{message}");
    }
}
