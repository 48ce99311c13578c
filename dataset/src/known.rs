//! Data sets that are recognised by the checksums of their files. Names and shapes are the same in the whole family.

use std::fs::File;
use std::path::Path;

use crate::files::{CLASSES, FILES};
use crate::{Error, Result, checksum};

/// Name of the data set that the homework uses.
pub const FASHION_MNIST: &str = "FashionMNIST";
/// Name of generated images.
pub const SYNTHETIC: &str = "synthetic stand-in";

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// The first characters of ten rows of the hiragana syllabary.
const KUZUSHIJI: [&str; 10] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

/// A data set of ten classes.
struct DataSet {
    name: &'static str,
    classes: [&'static str; 10],
    /// In the order of [`FILES`].
    files: [Md5; 4],
}

enum Md5 {
    /// Checksum of the uncompressed content: recognises the file plain and in any archive.
    Content(&'static str),
    /// Checksum of the distributed .gz file: the only one that is published.
    Archive(&'static str),
}

/// Sources: for MNIST, the checksums of the extracted files in several public loaders; for KMNIST, torchvision's
/// `datasets/mnist.py`; for EMNIST (Cohen et al. 2017), `EMnistResourceConstants` of Deeplearning4j.
static KNOWN: [DataSet; 5] = [
    DataSet {
        name: FASHION_MNIST,
        classes: CLASSES,
        files: [
            Md5::Content(FILES[0].md5),
            Md5::Content(FILES[1].md5),
            Md5::Content(FILES[2].md5),
            Md5::Content(FILES[3].md5),
        ],
    },
    DataSet {
        name: "MNIST",
        classes: DIGITS,
        files: [
            Md5::Content("6bbc9ace898e44ae57da46a324031adb"),
            Md5::Content("a25bea736e30d166cdddb491f175f624"),
            Md5::Content("2646ac647ad5339dbf082846283269ea"),
            Md5::Content("27ae3e4e09519cfbb04c329615203637"),
        ],
    },
    DataSet {
        name: "KMNIST",
        classes: KUZUSHIJI,
        files: [
            Md5::Archive("bdb82020997e1d708af4cf47b453dcf7"),
            Md5::Archive("e144d726b3acfaa3e44228e80efcd344"),
            Md5::Archive("5c965bf0a639b31b8f53240b1b52f4d7"),
            Md5::Archive("7320c461ea6c1c855c0b718fb2a4b134"),
        ],
    },
    DataSet {
        name: "EMNIST Digits",
        classes: DIGITS,
        files: [
            Md5::Archive("d2662ecdc47895a6bbfce25de9e9a677"),
            Md5::Archive("2223fcfee618ac9c89ef20b6e48bcf9e"),
            Md5::Archive("a159b8b3bd6ab4ed4793c1cb71a2f5cc"),
            Md5::Archive("8afde66ea51d865689083ba6bb779fac"),
        ],
    },
    DataSet {
        name: "EMNIST MNIST",
        classes: DIGITS,
        files: [
            Md5::Archive("3663598a39195d030895b6304abb5065"),
            Md5::Archive("6c092f03c9bb63e678f80f8bc605fe37"),
            Md5::Archive("fb51b6430fc4dd67deaada1bf25d4524"),
            Md5::Archive("ae7f6be798a9a5d5f2bd32e078a402dd"),
        ],
    },
];

/// A file of a known data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub set: &'static str,
    /// Index into [`FILES`].
    pub file: usize,
}

/// The names of the ten classes of the data set `name`: those of a known set, FashionMNIST's for generated images, and
/// the labels themselves otherwise.
///
/// ```
/// use vitlab_dataset::known::classes;
/// assert_eq!(classes("FashionMNIST")[9], "Ankle boot");
/// assert_eq!(classes("KMNIST")[9], "wo");
/// assert_eq!(classes("unknown data set 1a2b3c4d")[9], "9");
/// ```
pub fn classes(name: &str) -> [&'static str; 10] {
    match KNOWN.iter().find(|set| set.name == name) {
        Some(set) => set.classes,
        None if name.starts_with(SYNTHETIC) => CLASSES,
        None => DIGITS,
    }
}

/// Returns true for the name of a data set whose checksums are known.
pub fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|set| set.name == name)
}

/// Recognises the file at `path`, whose uncompressed content has the checksum `content`.
///
/// # Errors
/// Fails if the file can't be read again.
pub(crate) fn recognise(path: &Path, content: &str) -> Result<Option<Known>> {
    let find = |matches: &dyn Fn(&Md5) -> bool| {
        let files = KNOWN.iter().flat_map(|set| (0..FILES.len()).map(move |file| (set, file)));
        let mut files = files.filter(|(set, file)| matches(&set.files[*file]));
        files.next().map(|(set, file)| Known { set: set.name, file })
    };
    let by_content = find(&|md5| matches!(md5, Md5::Content(known) if *known == content));
    if by_content.is_some() {
        return Ok(by_content);
    }
    let unreadable = |error| Error::file(path, format!("can't be read ({error}); check the disk and try again"));
    let archive = File::open(path).and_then(checksum::md5).map_err(unreadable)?;
    Ok(find(&|md5| matches!(md5, Md5::Archive(known) if *known == archive)))
}
