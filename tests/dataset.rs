//! Data files: well-formed files are read unchanged, and each kind of damage has its own message.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use vitlab_dataset::files::SYNTHETIC_MARK;
use vitlab_dataset::idx::{self, Idx};
use vitlab_dataset::synthetic;
use vitlab_dataset::{FILES, SIDE, Source, Split, source};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A well-formed file of two images of 2 × 3.
fn small() -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend(1..=12);
    bytes
}

/// Returns the error message for a file with `content`. It must name the file and the remedy, on one line.
fn message(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images");
    fs::write(&path, content).unwrap();
    let message = idx::read(&path).unwrap_err().to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(message.contains("cargo lab setup"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn assert_says(message: &str, what: &str) {
    assert!(message.contains(what), "{what:?} is not in {message:?}");
}

#[test]
fn plain_and_gzipped_files_read_the_same_whatever_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let expected = Idx { dims: vec![2, 2, 3], bytes: (1..=12).collect() };
    for (name, content) in [("a", small()), ("a.gz", gzip(&small())), ("b", gzip(&small())), ("b.gz", small())] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(idx::read(&path).unwrap(), expected);
        assert_eq!(idx::read_dims(&path).unwrap(), expected.dims);
    }
    let path = folder.path().join("written");
    idx::write(&path, &expected).unwrap();
    assert_eq!(fs::read(&path).unwrap(), small());
}

#[test]
fn broken_files() {
    assert_says(&message(&[]), "is empty");
    assert_says(&message(&small()[..10]), "is truncated");
    assert_says(&message(&small()[..20]), "announces 12 bytes of data, 4 are there");
    assert_says(&message(&[&small()[..], b"!"].concat()), "more data than the 12 bytes");
    assert_says(&message(b"<html>Not found</html>"), "is not an IDX file");
    let mut floats = small();
    floats[2] = 0x0d;
    assert_says(&message(&floats), "IDX type 0x0d");
}

#[test]
fn broken_archives() {
    let archive = gzip(&small());
    assert_says(&message(&archive[..archive.len() - 4]), "is truncated");
    assert_says(&message(&archive[..12]), "is truncated");
    assert_says(&message(&gzip(&small()[..20])), "announces 12 bytes of data, 4 are there");
    assert_says(&message(&gzip(&[&small()[..], b"!"].concat())), "more data than");
    let mut wrong_checksum = archive.clone();
    let checksum = archive.len() - 8;
    wrong_checksum[checksum] ^= 1;
    assert_says(&message(&wrong_checksum), "is corrupt");
    let mut wrong_method = archive.clone();
    wrong_method[2] = 7;
    assert_says(&message(&wrong_method), "is corrupt");
    assert_says(&message(&[&archive[..], b"trailing bytes"].concat()), "is corrupt");
}

/// 4 GiB × 4 GiB × 4 GiB overflows, 2³¹ bytes doesn't: both are refused before any memory is asked for.
#[test]
fn absurd_dimensions_ask_for_no_memory() {
    let header = |dims: &[u32]| {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes
    };
    assert_says(&message(&header(&[u32::MAX; 3])), "impossible dimensions");
    assert_says(&message(&header(&[1 << 31])), "impossible dimensions");
    assert_says(&message(&header(&[1; 200])), "0 are there");
    // Within the limit, but the file doesn't hold it.
    assert_says(&message(&header(&[1 << 30])), "0 are there");
    // An archive that unpacks to far more than its header announces is read no further than that.
    let mut bomb = header(&[16]);
    bomb.resize(100 << 20, 0);
    assert_says(&message(&gzip(&bomb)), "more data than the 16 bytes");
}

#[test]
fn folders_and_missing_files() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(&idx::read(folder.path()).unwrap_err().to_string(), "is a folder");
    let missing = folder.path().join("missing");
    assert_says(&idx::read(missing).unwrap_err().to_string(), "doesn't exist; run `cargo lab setup`");
}

#[test]
fn writing_checks_first_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images");
    fs::write(&path, "old").unwrap();
    let wrong = Idx { dims: vec![2, 2], bytes: vec![0; 5] };
    assert_says(&idx::write(&path, &wrong).unwrap_err().to_string(), "don't match the 5 bytes");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let good = Idx { dims: vec![5], bytes: vec![0; 5] };
    assert_says(&idx::write(folder.path(), &good).unwrap_err().to_string(), "is a folder");
    let below_a_file = path.join("images");
    assert_says(&idx::write(&below_a_file, &good).unwrap_err().to_string(), "can't be written");
}

/// Writes a generated set of 30 and 20 images, which each test then breaks.
fn generated() -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_folder(folder.path(), 30, 20, 1).unwrap();
    let source = Source::Folder(folder.path().to_path_buf());
    (folder, source)
}

fn train_message(source: &Source) -> String {
    let message = source::read(source, Split::Train).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn swap(a: PathBuf, b: PathBuf) {
    let aside = a.with_extension("aside");
    fs::rename(&a, &aside).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&aside, &b).unwrap();
}

#[test]
fn the_stand_in_is_read_back_and_marked() {
    let (folder, source) = generated();
    let read = source::read(&source, Split::Train).unwrap();
    assert_eq!((read.images, read.labels), synthetic::generate(30, 1));
    assert!(read.dataset.starts_with("synthetic stand-in "), "{}", read.dataset);
    assert_eq!(source::read(&source, Split::Test).unwrap().labels.len(), 20);
    assert!(source.is_synthetic() && source.to_string().contains("synthetic"));
    let error = source::verify(&folder.path().join(FILES[1].name), &FILES[1]).unwrap_err();
    assert_says(&error.to_string(), "is not FashionMNIST's train-labels-idx1-ubyte");
    // A generated set may be overwritten, data without the mark never.
    synthetic::write_folder(folder.path(), 10, 10, 1).unwrap();
    fs::remove_file(folder.path().join(SYNTHETIC_MARK)).unwrap();
    let error = synthetic::write_folder(folder.path(), 40, 10, 1).unwrap_err();
    assert_says(&error.to_string(), "not generated");
    assert_eq!(source::read(&source, Split::Train).unwrap().labels.len(), 10);
}

#[test]
fn the_stand_in_without_files() {
    let train = source::read(&Source::Synthetic, Split::Train).unwrap();
    let test = source::read(&Source::Synthetic, Split::Test).unwrap();
    assert_eq!((train.labels.len(), test.labels.len()), (synthetic::TRAIN, synthetic::TEST));
    assert_eq!(train.images.len(), synthetic::TRAIN * 28 * 28);
    assert_ne!(train.images[..28 * 28 * 100], test.images[..28 * 28 * 100]);
}

/// A nearest neighbour by squared distance of the pixels must not be perfect, and must be better than chance.
#[test]
fn the_stand_ins_classes_can_be_learnt_but_not_trivially() {
    let ((train, train_labels), (test, test_labels)) = (synthetic::generate(600, 3), synthetic::generate(200, 4));
    let distance = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>();
    let is_wrong = |(image, label): &(&[u8], &u8)| {
        let training = train.chunks(SIDE * SIDE).zip(&train_labels);
        training.min_by_key(|(other, _)| distance(image, other)).unwrap().1 != *label
    };
    let wrong = test.chunks(SIDE * SIDE).zip(&test_labels).filter(is_wrong).count();
    assert!((10..=100).contains(&wrong), "{wrong} of 200 wrong");
}

#[test]
fn the_stand_ins_seeds_differ_and_its_background_is_black() {
    let (images, labels) = synthetic::generate(100, 5);
    let other = synthetic::generate(100, 6);
    assert!(other.0 != images && other.1 != labels);
    assert!(images.chunks(SIDE * SIDE).all(|image| image[0] == 0 && image.iter().any(|&pixel| pixel > 60)));
}

#[test]
fn mislabelled_files() {
    let path = |folder: &Path, i: usize| folder.join(FILES[i].name);

    let (folder, source) = generated();
    swap(path(folder.path(), 0), path(folder.path(), 1));
    assert_says(&train_message(&source), "mislabelled: it holds labels where images belong");

    let (folder, source) = generated();
    fs::copy(path(folder.path(), 0), path(folder.path(), 1)).unwrap();
    assert_says(&train_message(&source), "mislabelled: it holds images where labels belong");

    let (folder, source) = generated();
    swap(path(folder.path(), 1), path(folder.path(), 3));
    assert_says(&train_message(&source), "has 20 labels for the 30 images");

    let (folder, source) = generated();
    let empty = |n: usize| Idx { dims: vec![n, 0, 0], bytes: vec![] };
    idx::write(path(folder.path(), 0), &empty(10_000)).unwrap();
    idx::write(path(folder.path(), 2), &empty(60_000)).unwrap();
    assert_says(&train_message(&source), "holds the 10,000 test images where the 60,000 training images belong");
}

#[test]
fn contents_that_are_not_fashion_mnist() {
    let (folder, source) = generated();
    let images = folder.path().join(FILES[0].name);
    let labels = folder.path().join(FILES[1].name);
    idx::write(&images, &Idx { dims: vec![30, 32, 32], bytes: vec![0; 30 * 32 * 32] }).unwrap();
    assert_says(&train_message(&source), "has shape [30, 32, 32]");

    synthetic::write_folder(folder.path(), 30, 20, 1).unwrap();
    let mut bytes = idx::read(&labels).unwrap().bytes;
    bytes[17] = 10;
    idx::write(&labels, &Idx { dims: vec![30], bytes }).unwrap();
    assert_says(&train_message(&source), "label 10 at position 17");

    idx::write(&labels, &Idx { dims: vec![30, 1], bytes: vec![0; 30] }).unwrap();
    assert_says(&train_message(&source), "has shape [30, 1]");

    idx::write(&images, &Idx { dims: vec![0, 28, 28], bytes: vec![] }).unwrap();
    idx::write(&labels, &Idx { dims: vec![0], bytes: vec![] }).unwrap();
    assert_says(&train_message(&source), "has no images");

    fs::remove_file(&labels).unwrap();
    assert_says(&train_message(&source), "has no train-labels-idx1-ubyte");
    let missing = Source::Folder(folder.path().join("missing"));
    assert_says(&train_message(&missing), "doesn't exist");
}

/// Needs the real data set, and is skipped where set-up has not downloaded it.
#[test]
fn the_real_data_set() {
    let Ok(source) = source::find(None) else {
        eprintln!("skipped: FashionMNIST is not on this machine");
        return;
    };
    if source.is_synthetic() {
        eprintln!("skipped: the data are the generated stand-in");
        return;
    }
    let Source::Folder(folder) = &source else { unreachable!("a real data set is a folder") };
    for file in FILES {
        let plain = folder.join(file.name);
        let path = if plain.exists() { plain } else { folder.join(format!("{}.gz", file.name)) };
        source::verify(&path, &file).unwrap();
    }
    for (split, n) in [(Split::Train, 60_000), (Split::Test, 10_000)] {
        let data = source::read(&source, split).unwrap();
        assert_eq!(data.dataset, "FashionMNIST");
        assert_eq!((data.images.len(), data.labels.len()), (n * 28 * 28, n));
        for class in 0..10 {
            let count = data.labels.iter().filter(|&&label| label == class).count();
            assert_eq!(count, n / 10, "class {class} of the {} set", split.name());
        }
    }
}

/// A set of 30 and 20 images that is no known one and not marked as generated.
fn unknown_set(folder: &Path) {
    synthetic::write_folder(folder, 30, 20, 1).unwrap();
    fs::remove_file(folder.join(SYNTHETIC_MARK)).unwrap();
}

fn chosen(path: &Path) -> Source {
    source::find(path.to_str()).unwrap()
}

fn dataset(source: &Source, split: Split) -> String {
    source::read(source, split).unwrap().dataset
}

#[test]
fn an_unknown_set_is_named_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    unknown_set(folder.path());
    let source = chosen(folder.path());
    let (train, test) = (dataset(&source, Split::Train), dataset(&source, Split::Test));
    assert!(train.starts_with("unknown data set ") && test.starts_with("unknown data set "), "{train} {test}");
    assert_ne!(train, test);
    assert_eq!(train, dataset(&source, Split::Train));
    // One pixel or one label of another value makes another set.
    for file in [&FILES[0], &FILES[1]] {
        let path = folder.path().join(file.name);
        let mut content = idx::read(&path).unwrap();
        *content.bytes.last_mut().unwrap() ^= 1;
        idx::write(&path, &content).unwrap();
        assert_ne!(dataset(&source, Split::Train), train);
    }
    assert_eq!(dataset(&source, Split::Test), test);
}

/// The MD5 of an array is that of its plain file, which `md5sum` computes.
#[test]
fn the_checksum_is_that_of_the_plain_file() {
    let content = Idx { dims: vec![2, 2, 3], bytes: (1..=12).collect() };
    let file = vitlab_dataset::checksum::md5(&small()[..]).unwrap();
    assert_eq!(content.md5().unwrap(), file);
}

/// Puts the four files of an unknown set into a new folder, each where `place` says.
fn placed(place: impl Fn(&Path, &str) -> PathBuf) -> tempfile::TempDir {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unknown_set(from.path());
    for file in FILES {
        let (plain, target) = (from.path().join(file.name), place(to.path(), file.name));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let content = fs::read(plain).unwrap();
        let is_archive = target.extension().is_some_and(|extension| extension == "gz");
        fs::write(target, if is_archive { gzip(&content) } else { content }).unwrap();
    }
    to
}

/// The names that distributors give to the files: as they are, gzipped, with a dot, with EMNIST's prefix, in Kaggle's
/// folders, and below torchvision's root.
#[test]
fn files_are_found_under_their_distributors_names() {
    let places: [fn(&Path, &str) -> PathBuf; 6] = [
        |folder, name| folder.join(name),
        |folder, name| folder.join(format!("{name}.gz")),
        |folder, name| folder.join(name.replace("-idx", ".idx")),
        |folder, name| folder.join(format!("emnist-digits-{}.gz", name.replace("t10k", "test"))),
        |folder, name| folder.join(name).join(name),
        |folder, name| folder.join("MNIST/raw").join(name),
    ];
    for place in places {
        let folder = placed(place);
        let by_folder = chosen(folder.path());
        for (split, n) in [(Split::Train, 30), (Split::Test, 20)] {
            assert_eq!(source::read(&by_folder, split).unwrap().labels.len(), n);
        }
        // Any of the files stands for its set.
        let test_labels = place(folder.path(), FILES[3].name);
        let by_file = chosen(&test_labels);
        assert_eq!(dataset(&by_file, Split::Train), dataset(&by_folder, Split::Train));
    }
}

#[test]
fn several_sets_in_a_folder() {
    let folder = placed(|folder, name| folder.join(format!("emnist-mnist-{name}")));
    let (images, labels) = synthetic::generate(10, 9);
    let digits = |name: &str| folder.path().join(format!("emnist-digits-{name}"));
    idx::write(digits(FILES[2].name), &Idx { dims: vec![10, SIDE, SIDE], bytes: images }).unwrap();
    idx::write(digits(FILES[3].name), &Idx { dims: vec![10], bytes: labels }).unwrap();
    let message = source::find(folder.path().to_str()).unwrap_err().to_string();
    assert_says(&message, "holds several data sets (emnist-digits, emnist-mnist); name a file of one of them");
    assert_eq!(source::read(&chosen(&digits(FILES[3].name)), Split::Test).unwrap().labels.len(), 10);
    let other = chosen(&folder.path().join(format!("emnist-mnist-{}", FILES[0].name)));
    assert_eq!(source::read(&other, Split::Test).unwrap().labels.len(), 20);
    // Files without a prefix are the folder's own set.
    unknown_set(folder.path());
    assert_eq!(source::read(&chosen(folder.path()), Split::Train).unwrap().labels.len(), 30);
}

#[test]
fn a_split_alone_is_enough_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    unknown_set(folder.path());
    fs::remove_file(folder.path().join(FILES[0].name)).unwrap();
    let source = chosen(folder.path());
    assert_eq!(source::read(&source, Split::Test).unwrap().labels.len(), 20);
    assert_says(&train_message(&source), "has no train-images-idx3-ubyte");
    fs::remove_file(folder.path().join(FILES[2].name)).unwrap();
    let message = source::find(folder.path().to_str()).unwrap_err().to_string();
    assert_says(&message, "has no train-images-idx3-ubyte, t10k-images-idx3-ubyte");
}

#[test]
fn choices_that_are_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| source::find(path.to_str()).unwrap_err().to_string();
    let table = folder.path().join("fashion-mnist_train.csv");
    fs::write(&table, "label,pixel1").unwrap();
    assert_says(&message(&table), "is neither a folder nor one of the four files of a data set");
    assert_says(&message(Path::new("/dev/null")), "is neither a folder nor one of the four files of a data set");
    assert_says(&message(&folder.path().join("nowhere")), "doesn't exist");
    assert_says(&message(folder.path()), "has no train-images-idx3-ubyte");
}

/// Reading a pipe that nobody writes to would wait for ever.
#[cfg(unix)]
#[test]
fn pipes_do_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    unknown_set(folder.path());
    let images = folder.path().join(FILES[0].name);
    fs::remove_file(&images).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&images).status().unwrap().success());
    assert_says(&train_message(&chosen(folder.path())), "is a pipe or a device");
    assert_says(&source::verify(&images, &FILES[0]).unwrap_err().to_string(), "is a pipe or a device");
    assert_says(&source::find(images.to_str()).unwrap_err().to_string(), "is neither a folder nor");
}

/// EMNIST Balanced has 47 classes, EMNIST Letters 26, counted from 1.
#[test]
fn more_than_ten_classes() {
    let folder = tempfile::tempdir().unwrap();
    unknown_set(folder.path());
    let labels = folder.path().join(FILES[1].name);
    idx::write(&labels, &Idx { dims: vec![30], bytes: (1..=30).map(|i| i % 26 + 1).collect() }).unwrap();
    assert_says(&train_message(&chosen(folder.path())), "label 10 at position 8 is none of the classes 0 to 9; take a");
}

/// Each change to the real files is noticed. Needs the real data set, and is skipped where it isn't.
#[test]
fn changed_files_of_fashion_mnist() {
    let Ok(source @ Source::Folder(_)) = source::find(None) else {
        return eprintln!("skipped: FashionMNIST is not here");
    };
    if source.is_synthetic() {
        return eprintln!("skipped: the data are the generated stand-in");
    }
    let test = source::read(&source, Split::Test).unwrap();
    let images = |n: usize| Idx { dims: vec![n, SIDE, SIDE], bytes: test.images[..n * SIDE * SIDE].to_vec() };
    let labels = |n: usize| Idx { dims: vec![n], bytes: test.labels[..n].to_vec() };
    let folder = tempfile::tempdir().unwrap();
    let write = |i: usize, content: &Idx| idx::write(folder.path().join(FILES[i].name), content).unwrap();

    write(2, &images(10_000));
    write(3, &labels(10_000));
    let copy = chosen(folder.path());
    assert_eq!(dataset(&copy, Split::Test), "FashionMNIST");

    let mut edited = images(10_000);
    edited.bytes[4_000_000] ^= 1;
    write(2, &edited);
    assert_says(&dataset(&copy, Split::Test), "(labels of FashionMNIST, other images)");
    write(2, &images(9_000));
    write(3, &labels(9_000));
    let truncated = dataset(&copy, Split::Test);
    assert!(truncated.starts_with("unknown data set ") && !truncated.contains("FashionMNIST"), "{truncated}");
    // The test set under the names of the training set.
    write(0, &images(10_000));
    write(1, &labels(10_000));
    assert_says(
        &train_message(&copy),
        "is mislabelled: it holds FashionMNIST's test images where the training images belong",
    );
}
