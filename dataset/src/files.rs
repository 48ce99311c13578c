//! Files and classes of FashionMNIST.

/// The official class names; a label is an index into this list.
pub const CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Height and width of an image in pixels.
pub const SIDE: usize = 28;

/// File that marks a folder of generated data, so that they can't pass for the real data set.
pub const SYNTHETIC_MARK: &str = "SYNTHETIC";

/// Part of the data set.
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

    /// Index of the file of the images in [`FILES`]; the labels follow it.
    pub(crate) fn first_file(self) -> usize {
        match self {
            Split::Train => 0,
            Split::Test => 2,
        }
    }
}

/// One file of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// File name without `.gz`.
    pub name: &'static str,
    /// MD5 of the uncompressed content; archives of the same content differ between distributors.
    pub md5: &'static str,
}

/// Training images, training labels, test images, test labels.
pub const FILES: [DataFile; 4] = [
    DataFile { name: "train-images-idx3-ubyte", md5: "f4a8712d7a061bf5bd6d2ca38dc4d50a" },
    DataFile { name: "train-labels-idx1-ubyte", md5: "9018921c3c673c538a1fc5bad174d6f9" },
    DataFile { name: "t10k-images-idx3-ubyte", md5: "8181f5470baa50b63fa0f6fddb340f0a" },
    DataFile { name: "t10k-labels-idx1-ubyte", md5: "15d484375f8d13e6eb1aabb0c3f46965" },
];

/// One split whose sizes and labels have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// [N, 28, 28], row by row; 0 is the black background
    pub images: Vec<u8>,
    /// `[N]`, 0 to 9: indices into [`known::classes`](crate::known::classes)
    pub labels: Vec<u8>,
    /// Name of the data set that the checksums of the files tell, such as `FashionMNIST`. Files that no known set has are
    /// an `unknown data set` with the first digits of their own checksum.
    pub dataset: String,
}
