//! Randomly damaged weight files: no panic, no hang, no memory beyond twice the file (and a fixed 256 KiB).
//!
//! `VITLAB_MUTATIONS=10000 cargo test --test weights_mutated -- --nocapture` tries that many of each kind and prints
//! the figures; without it, some hundreds are tried.

mod memory;
mod python;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use memory::peak;
use tch::Tensor;
use vitlab::weights::{StateDict, read};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// SplitMix64: the same mutations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes `bytes` in one to eight places, rather few than many, all within `from..`.
fn mutate(bytes: &mut Vec<u8>, from: usize, random: &mut Random) {
    let most = 1 + random.below(8);
    for _ in 0..=random.below(most) {
        let at = from + random.below(bytes.len().saturating_sub(from));
        let len = random.below(40).min(bytes.len() - at);
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'(', b'.', b'h'][random.below(8)],
            2 => bytes[at] = random.next() as u8,
            3 => {
                let numbers = [
                    0,
                    1,
                    0x7fff_ffff,
                    0x8000_0000,
                    0xffff_ffff,
                    1 << 62,
                    u64::MAX,
                ];
                let number = numbers[random.below(7)].to_le_bytes();
                let end = (at + 4 + 4 * random.below(2)).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => drop(bytes.drain(at..at + len)),
            5 => {
                let piece = bytes[at..at + len].to_vec();
                let to = from + random.below(bytes.len() - from);
                bytes.splice(to..to, piece);
            }
            6 => {
                let piece = bytes[at..at + len].to_vec();
                let to = from + random.below(bytes.len() - len - from);
                bytes[to..to + len].copy_from_slice(&piece);
            }
            7 => {
                let digit = b"0123456789-"[random.below(11)];
                if let Some(found) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + found] = digit;
                }
            }
            _ if random.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
        if bytes.len() <= from {
            return;
        }
    }
}

/// A PyTorch file with another pickle, its checksums right.
fn with_pickle(original: &[u8], pickle: &[u8]) -> Vec<u8> {
    let mut from = ZipArchive::new(Cursor::new(original)).unwrap();
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let name = entry.name().unwrap().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        to.start_file(&name, options).unwrap();
        to.write_all(if name.ends_with("data.pkl") {
            pickle
        } else {
            &bytes
        })
        .unwrap();
    }
    to.finish().unwrap().into_inner()
}

fn pickle_of(file: &[u8]) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(file)).unwrap();
    let name = archive
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .find(|name| name.ends_with("/data.pkl"))
        .unwrap();
    let mut bytes = Vec::new();
    archive
        .by_name(&name)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[derive(Default)]
struct Seen {
    accepted: usize,
    slowest: Duration,
    /// Largest peak as a multiple of the file, and the bytes by which twice the file was exceeded at most.
    largest: f64,
    beyond: i64,
    messages: HashMap<String, usize>,
}

/// Reads a file; its peak is what Rust allocated plus all that libtorch may have: the tensors, at most the file.
fn check(path: &Path, bytes: &[u8], seen: &mut Seen) {
    fs::write(path, bytes).unwrap();
    let start = Instant::now();
    let (result, rust) = peak(|| read(path));
    seen.slowest = seen.slowest.max(start.elapsed());
    let libtorch = match &result {
        Ok(dict) => storage_bytes(dict),
        Err(_) => bytes.len(),
    };
    let total = rust + libtorch;
    seen.largest = seen.largest.max(total as f64 / bytes.len().max(1) as f64);
    seen.beyond = seen.beyond.max(total as i64 - 2 * bytes.len() as i64);
    match result {
        Ok(dict) => {
            seen.accepted += 1;
            // Every element must be where the tensor says it is.
            for (_, tensor) in &dict.0 {
                if tensor.numel() < 1 << 20 {
                    let _ = tensor.contiguous();
                }
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "{message}");
            let phrase: String = message
                .split_once(": ")
                .unwrap()
                .1
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(40)
                .collect();
            *seen.messages.entry(phrase).or_default() += 1;
        }
    }
}

/// What tensors take that may be views of the same memory: the union of the ranges that they reach.
fn storage_bytes(dict: &StateDict) -> usize {
    let reach = |tensor: &Tensor| {
        let start = tensor.data_ptr() as usize;
        let last: i64 = tensor
            .size()
            .iter()
            .zip(tensor.stride())
            .map(|(size, stride)| (size - 1) * stride)
            .sum();
        (
            start,
            start + (last as usize + 1) * tensor.kind().elt_size_in_bytes(),
        )
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

#[test]
fn mutated_files() {
    let each: usize =
        std::env::var("VITLAB_MUTATIONS").map_or(700, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    python::reference("weights.py", &["make", folder.path().to_str().unwrap()]);
    let seeds = ["vit", "views", "cnn", "dtypes", "protocol4"];
    let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let path = folder.path().join("mutated");
    let mut random = Random(2026);
    let kinds = ["PyTorch file", "pickle inside", "safetensors file"];
    for (kind, description) in kinds.iter().enumerate() {
        let mut seen = Seen::default();
        let start = Instant::now();
        for turn in 0..each {
            let seed = seeds[turn % seeds.len()];
            let bytes = match kind {
                0 => {
                    let mut bytes = file(&format!("{seed}.pt"));
                    // Half of them in the directory at the end, where a change isn't just a wrong checksum.
                    let last = bytes.len().saturating_sub(12_000).max(bytes.len() / 2);
                    mutate(
                        &mut bytes,
                        if turn % 2 == 0 { 0 } else { last },
                        &mut random,
                    );
                    bytes
                }
                1 => {
                    let original = file(&format!("{seed}.pt"));
                    let mut pickle = pickle_of(&original);
                    mutate(&mut pickle, 0, &mut random);
                    with_pickle(&original, &pickle)
                }
                _ => {
                    let mut bytes = file(&format!("{seed}.safetensors"));
                    // Most of it is tensors, whose values may be anything: change the header.
                    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                    let tail = bytes.split_off(data);
                    mutate(&mut bytes, if turn % 8 == 0 { 0 } else { 8 }, &mut random);
                    if turn % 2 == 0 && bytes.len() >= 8 {
                        let header = bytes.len() as u64 - 8;
                        bytes[..8].copy_from_slice(&header.to_le_bytes());
                    }
                    bytes.extend(tail);
                    bytes
                }
            };
            check(&path, &bytes, &mut seen);
        }
        println!(
            "{each} × {description}: {} accepted, {} different errors; slowest {:?}, all {:?}; at most {:.2} × the \
             file, {} bytes beyond twice the file",
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
        // For small files, what doesn't depend on the file's size: the reader's buffer, and the fields of a zip entry
        // (name, extra data, comment), for each of which 64 KiB are reserved if it says that it is so long.
        assert!(seen.beyond < 256 << 10, "{} bytes", seen.beyond);
        assert!(messages.len() > 5);
    }
}

/// The whole process this time, libtorch included: the peak that the kernel has seen.
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
    let zeros = || io::repeat(0).take(100 << 20);
    let pt = folder.path().join("large.pt");
    // {"a": torch.zeros(26214400)}
    let pickle =
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage\
        ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x00\x00\x90\x01tQK\x00\
        J\x00\x00\x90\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";
    let mut zip = ZipWriter::new(File::create(&pt).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    zip.start_file("a/data/0", stored).unwrap();
    io::copy(&mut zeros(), &mut zip).unwrap();
    zip.finish().unwrap();
    let safetensors = folder.path().join("large.safetensors");
    let header = r#"{"a":{"dtype":"F32","shape":[26214400],"data_offsets":[0,104857600]}}"#;
    let mut file = File::create(&safetensors).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    io::copy(&mut zeros(), &mut file).unwrap();
    for path in [pt, safetensors] {
        let before = mebibytes("VmRSS");
        let dict = read(&path).unwrap();
        let grown = mebibytes("VmHWM") - before;
        println!("{}: 100 MiB, {grown} MiB at the peak", path.display());
        assert_eq!(dict.get("a").unwrap().size(), [26_214_400]);
        // Some room for the other test of this program.
        assert!(grown <= 220, "{grown} MiB");
    }
}
