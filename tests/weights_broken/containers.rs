//! Zip archives and safetensors files that contradict themselves.

use tch::Tensor;
use vitlab::checkpoint::{StateDict, write};

use super::archive::{VALID, archive, dict};
use super::memory::peak;
use super::{read_bytes, refusal, with_pickle};

#[test]
fn archives_that_contradict_themselves() {
    let pickle = dict(&[("a", VALID.bytes())]);
    let good = with_pickle(&pickle);
    let data = good.windows(16).position(|window| window == [0; 16]).unwrap();
    let mut flipped = good.clone();
    flipped[data + 3] ^= 1;
    assert!(refusal(&flipped).contains("hecksum"), "{}", refusal(&flipped));
    let at = good.windows(6).position(|window| window == b"rebuil").unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    assert!(refusal(&flipped).contains("hecksum"), "{}", refusal(&flipped));

    let folders = archive(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle), ("a/data/0", &[0; 16])]);
    assert!(refusal(&folders).contains("not a PyTorch state dict"));
    for name in ["data.pkl", "a/b/data.pkl", "../data.pkl/x", "/etc/data.pkl"] {
        let message = refusal(&archive(&[(name, &pickle), ("a/data/0", &[0; 16])]));
        assert!(message.contains("not a PyTorch state dict"), "{name}: {message}");
    }
    // A folder named ".." is accepted: names are keys of the archive and never paths on disk.
    assert!(read_bytes(&archive(&[("../data.pkl", &pickle), ("../data/0", &[0; 16])])).is_ok());

    let big = archive(&[("a/data.pkl", &pickle), ("a/byteorder", b"big"), ("a/data/0", &[0; 16])]);
    assert!(refusal(&big).contains("big-endian"));

    // The directory renames data/0 to data/1, while its local header still says data/0.
    let directory = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let mut renamed = good.clone();
    let at = directory + good[directory..].windows(12).position(|w| w == b"model/data/0").unwrap();
    renamed[at..at + 12].copy_from_slice(b"model/data/1");
    assert!(refusal(&renamed).contains("damaged"), "{}", refusal(&renamed));

    // Entries larger than the file: as the directory says, and as both directory and local headers say.
    for places in [1, 2] {
        let mut claims = good.clone();
        let mut found = 0;
        for at in (0..claims.len() - 4).rev() {
            if claims[at..at + 4] == 16_u32.to_le_bytes() && found < 2 * places {
                claims[at..at + 4].copy_from_slice(&0xfff_fff0_u32.to_le_bytes());
                found += 1;
            }
        }
        assert_eq!(found, 2 * places);
        let (message, peak) = peak(|| refusal(&claims));
        assert!(message.contains("damaged"), "{message}");
        assert!(peak < 100_000, "{peak}");
    }

    let names: Vec<String> = (0..9_000).map(|i| format!("a/data/{i}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(refusal(&archive(&entries)).contains("archive of 9000 files"));
}

#[test]
fn truncated_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [
        ("a".to_string(), Tensor::from_slice(&[1.0_f32, 2.0, 3.0])),
        ("b".to_string(), Tensor::from_slice(&[4_i64, 5])),
    ];
    for name in ["model.pt", "model.safetensors"] {
        let path = folder.path().join(name);
        write(&path, &StateDict(tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect())).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            refusal(&bytes[..len]);
        }
        assert!(read_bytes(&bytes).is_ok());
    }
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn safetensors_that_contradict_themselves() {
    let entry = |text: &str| format!("{{{text}}}");
    let cases: [(&str, usize); 12] = [
        (r#""a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#, 8),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#, 12),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#, 8),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, 9),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, 7),
        (r#""a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#, 8),
        (r#""a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}"#, 0),
        (r#""a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}"#, 0),
        (r#""a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}"#, 8),
        (
            r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
            4,
        ),
        (
            r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
            8,
        ),
        (r#""\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 4),
    ];
    for (header, len) in cases {
        refusal(&safetensors(&entry(header), &vec![0; len]));
    }
    let scalar = entry(r#""a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#);
    assert!(read_bytes(&safetensors(&scalar, &[0; 4])).is_ok());
    refusal(&safetensors(&"[".repeat(100_000), &[]));
    refusal(&safetensors(&r#"{"a":"#.repeat(100_000), &[]));
    refusal(&safetensors("{\"\u{fffd}\":", &[]));
    assert!(refusal(&safetensors(&entry(&" ".repeat(1 << 20)), &[])).contains("header of"));
    let mut long = safetensors(&scalar, &[0; 4]);
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&long).contains("neither"));

    // The header that takes most memory: a shape of as many dimensions as fit into it.
    let dimensions = vec!["0"; 520_000].join(",");
    let header = format!(r#""a":{{"dtype":"F32","shape":[{dimensions}],"data_offsets":[0,0]}}"#);
    let (message, peak) = peak(|| refusal(&safetensors(&entry(&header), &[])));
    assert!(message.contains("dimensions"), "{message}");
    println!("a safetensors header of 1 MiB: {peak} bytes at most");
    assert!(peak < 40 << 20);
}
