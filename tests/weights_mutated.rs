//! Randomly damaged checkpoint files: no panic, no hang, no more memory than twice the file and a fixed 256 KiB.
//!
//! `VITLAB_MUTATIONS=10000 cargo test --test weights_mutated -- --nocapture` tries that many of each kind and prints the
//! figures. Without it, 700 of each kind are tried.

mod archive;
mod common;
mod memory;
mod mutation;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use archive::{TensorPickle, VALID, archive, dict};
use memory::peak;
use mutation::{SplitMix64, mutate};
use tch::Tensor;
use vitlab::checkpoint::{StateDict, read};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// An archive in which one of the entries with that ending is damaged, and whose checksums are right.
fn with_mutated_entry(original: &[u8], ending: &str, random: &mut SplitMix64) -> Vec<u8> {
    let mut from = ZipArchive::new(Cursor::new(original)).unwrap();
    let mut entries = Vec::new();
    let names: Vec<String> =
        from.file_names().map(|name| name.unwrap().to_string()).filter(|name| name.ends_with(ending)).collect();
    let chosen = names[random.below(names.len())].clone();
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let name = entry.name().unwrap().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name == chosen {
            // A change of an array's numbers is none of its form.
            let rest = bytes.split_off(bytes.len().min(if ending == ".npy" { 80 } else { usize::MAX }));
            mutate(&mut bytes, 0, random);
            bytes.extend(rest);
        }
        entries.push((name, bytes));
    }
    archive(&entries.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect::<Vec<_>>())
}

#[derive(Default)]
struct Seen {
    accepted: usize,
    slowest: Duration,
    /// Largest peak as a multiple of the file's size, for files above 100 kB.
    largest: f64,
    /// Most bytes beyond twice the file's size, for any file.
    beyond: i64,
    messages: HashMap<String, usize>,
}

/// Reads a file. Its peak is what Rust allocated and what libtorch can have allocated: the tensors, at most the file.
fn check(path: &Path, bytes: &[u8], seen: &mut Seen) -> Option<StateDict> {
    fs::write(path, bytes).unwrap();
    let start = Instant::now();
    let (result, rust) = peak(|| read(path));
    seen.slowest = seen.slowest.max(start.elapsed());
    let libtorch = match &result {
        Ok(dict) => storage_bytes(dict),
        Err(_) => bytes.len(),
    };
    let total = rust + libtorch;
    if bytes.len() > 100_000 {
        seen.largest = seen.largest.max(total as f64 / bytes.len() as f64);
    }
    seen.beyond = seen.beyond.max(total as i64 - 2 * bytes.len() as i64);
    match result {
        Ok(dict) => {
            seen.accepted += 1;
            Some(dict)
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "{message}");
            let (_, problem) = message.split_once(": ").unwrap();
            let letters = problem.chars().filter(|c| !c.is_ascii_digit());
            *seen.messages.entry(letters.take(40).collect()).or_default() += 1;
            None
        }
    }
}

/// The bytes of each tensor; reads every element.
fn content(dict: &StateDict) -> Vec<(String, Vec<u8>)> {
    let bytes = |tensor: &Tensor| {
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        bytes
    };
    dict.0.iter().map(|(name, tensor)| (name.clone(), bytes(tensor))).collect()
}

/// Memory of tensors that may share it as views: the union of the ranges that they reach.
fn storage_bytes(dict: &StateDict) -> usize {
    let reach = |tensor: &Tensor| {
        let start = tensor.data_ptr() as usize;
        let last: i64 = tensor.size().iter().zip(tensor.stride()).map(|(size, stride)| (size - 1) * stride).sum();
        (start, start + (last as usize + 1) * tensor.kind().elt_size_in_bytes())
    };
    let tensors = dict.0.iter().map(|(_, tensor)| tensor);
    let mut ranges: Vec<_> = tensors.filter(|t| t.numel() > 0).map(reach).collect();
    ranges.sort();
    let mut end = 0;
    let mut bytes = 0;
    for (start, stop) in ranges {
        bytes += stop.saturating_sub(start.max(end));
        end = end.max(stop);
    }
    bytes
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    PtFile,
    Pickle,
    SafetensorsFile,
    /// Before PyTorch 1.6, without checksums.
    LegacyPt,
    /// A training checkpoint, with objects beside its dictionaries of tensors.
    TrainingPickle,
    NpzFile,
    NpzEntry,
    Index,
}

impl Format {
    const ALL: [Format; 8] = [
        Format::PtFile,
        Format::Pickle,
        Format::SafetensorsFile,
        Format::LegacyPt,
        Format::TrainingPickle,
        Format::NpzFile,
        Format::NpzEntry,
        Format::Index,
    ];

    /// Files of this format in the folder that the generators fill.
    fn files(self) -> Vec<String> {
        let plain = ["vit", "views", "cnn", "dtypes", "protocol4"];
        let legacy = ["legacy_views", "legacy_dtypes", "legacy_parameters", "legacy_protocol4"];
        let training = ["model.2", "model.5", "dino.5", "nested.5", "attributes.5", "odd.2"];
        let named = |names: &[&str], ending: &str| names.iter().map(|name| format!("{name}.{ending}")).collect();
        match self {
            Format::PtFile | Format::Pickle => named(&plain, "pt"),
            Format::SafetensorsFile => named(&plain, "safetensors"),
            Format::LegacyPt => {
                named(&legacy, "pt").into_iter().chain(named(&["model", "dino"], "legacy.ckpt")).collect()
            }
            Format::TrainingPickle => named(&training, "pt"),
            Format::NpzFile | Format::NpzEntry => named(&["arrays"], "npz"),
            Format::Index => vec!["sharded_safetensors/model.safetensors.index.json".into()],
        }
    }

    /// A copy of the file, damaged where its reader has to notice it.
    fn damaged(self, original: &[u8], round: usize, random: &mut SplitMix64) -> Vec<u8> {
        let mut bytes = original.to_vec();
        match self {
            Format::PtFile | Format::NpzFile => {
                // Every second mutation hits the directory at the end, where a change does more than break a checksum.
                let end = bytes.len().saturating_sub(12_000).max(bytes.len() / 2);
                mutate(&mut bytes, if round.is_multiple_of(2) { 0 } else { end }, random);
                bytes
            }
            Format::Pickle | Format::TrainingPickle => with_mutated_entry(original, "/data.pkl", random),
            Format::NpzEntry => with_mutated_entry(original, ".npy", random),
            Format::Index => {
                mutate(&mut bytes, 0, random);
                bytes
            }
            Format::LegacyPt => {
                // Mostly in the pickles at the start.
                let end = if round.is_multiple_of(4) { bytes.len() } else { bytes.len().min(3_000) };
                let rest = bytes.split_off(end);
                mutate(&mut bytes, 0, random);
                bytes.extend(rest);
                bytes
            }
            Format::SafetensorsFile => {
                // In the header alone: the tensors after it may have any values.
                let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                bytes.truncate(8 + header);
                mutate(&mut bytes, if round.is_multiple_of(8) { 0 } else { 8 }, random);
                if round.is_multiple_of(2) && bytes.len() >= 8 {
                    let len = bytes.len() as u64 - 8;
                    bytes[..8].copy_from_slice(&len.to_le_bytes());
                }
                [&bytes, &original[8 + header..]].concat()
            }
        }
    }
}

#[test]
fn mutated_files() {
    let rounds: usize = std::env::var("VITLAB_MUTATIONS").map_or(700, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    for generator in ["weights.py", "checkpoints.py"] {
        common::reference(generator, &["make".as_ref(), folder.path()]);
    }
    let mut random = SplitMix64(2026);
    for format in Format::ALL {
        let mut seen = Seen::default();
        let start = Instant::now();
        let files: Vec<_> = format.files().into_iter().map(|name| folder.path().join(name)).collect();
        let originals: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        for round in 0..rounds {
            let (file, original) = (&files[round % files.len()], &originals[round % files.len()]);
            let bytes = format.damaged(original, round, &mut random);
            if let Some(dict) = check(&file.with_file_name("mutated"), &bytes, &mut seen) {
                let content = content(&dict);
                // An archive that is accepted has its original content: checksums cover all that matters.
                if matches!(format, Format::PtFile | Format::NpzFile) {
                    let original = read(file).unwrap();
                    assert!(content == self::content(&original), "{}, round {round}", file.display());
                }
            }
        }
        println!(
            "{rounds} × {format:?}: {} accepted, {} different errors; slowest {:?}, all {:?}; at most {:.2} × a file \
             above 100 kB, {} bytes beyond twice a file",
            seen.accepted,
            seen.messages.len(),
            seen.slowest,
            start.elapsed(),
            seen.largest,
            seen.beyond
        );
        let mut messages: Vec<_> = seen.messages.into_iter().collect();
        messages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (message, count) in messages.iter().take(25) {
            println!("  {count:6} {message}");
        }
        assert!(seen.slowest < Duration::from_secs(5));
        // Small files take what doesn't depend on the file's size: the reader's buffer, and 64 KiB for each field of a
        // zip entry (name, extra data, comment) that claims to be so long.
        assert!(seen.beyond < 256 << 10, "{} bytes", seen.beyond);
        assert!(messages.len() > 5);
    }
}

/// Measures the whole process, libtorch included: the peak that Linux reports.
#[cfg(target_os = "linux")]
#[test]
fn large_files_take_at_most_twice_their_size() {
    let mebibytes = |field: &str| -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap();
        kilobytes.parse::<usize>().unwrap() / 1024
    };
    let folder = tempfile::tempdir().unwrap();
    // 26,214,400 float32 values, streamed to the files so that they don't count.
    let zeros = || io::repeat(0).take(100 << 20);
    let pt = folder.path().join("large.pt");
    let tensor = TensorPickle { len: 26_214_400, size: &[26_214_400], stride: &[1], ..VALID };
    let mut zip = ZipWriter::new(File::create(&pt).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(&dict(&[("a", tensor.bytes())])).unwrap();
    zip.start_file("a/data/0", stored).unwrap();
    io::copy(&mut zeros(), &mut zip).unwrap();
    zip.finish().unwrap();
    let safetensors = folder.path().join("large.safetensors");
    let header = r#"{"a":{"dtype":"F32","shape":[26214400],"data_offsets":[0,104857600]}}"#;
    let mut file = File::create(&safetensors).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    io::copy(&mut zeros(), &mut file).unwrap();
    for path in [pt, safetensors] {
        let before = mebibytes("VmRSS");
        let dict = read(&path).unwrap();
        let grown = mebibytes("VmHWM") - before;
        println!("{}: 100 MiB, {grown} MiB at the peak", path.display());
        assert_eq!(dict.get("a").unwrap().size(), [26_214_400]);
        // 20 MiB more than twice the file: the other test of this program may run at the same time.
        assert!(grown <= 220, "{grown} MiB");
    }
}
