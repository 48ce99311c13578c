//! Broken and malicious weight files, made here piece by piece: each is an error, none costs more than it should.

mod memory;

use std::io::{Cursor, Write};

use memory::peak;
use tch::{Kind, Tensor};
use vitlab::weights::{StateDict, read, write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Reads a file of these bytes.
fn read_bytes(bytes: &[u8]) -> vitlab::Result<StateDict> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path())
}

/// The error of reading a file of these bytes, without the file's name.
fn refusal(bytes: &[u8]) -> String {
    let message = match read_bytes(bytes) {
        Ok(dict) => panic!("accepted: {dict:?}"),
        Err(error) => error.to_string(),
    };
    assert!(
        message.len() < 1500 && !message.contains(char::is_control),
        "{message:?}"
    );
    message.split_once(": ").unwrap().1.to_string()
}

fn archive_with(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(CompressionMethod::Stored, entries)
}

/// A PyTorch file with this pickle and one storage, `data/0`, of four float32 values.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    archive(&[("model/data.pkl", pickle), ("model/data/0", &[0; 16])])
}

fn text(text: &str) -> Vec<u8> {
    [
        &b"X"[..],
        &(text.len() as u32).to_le_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

fn integer(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|&item| integer(item)).collect();
    [b"(", &items[..], b"t"].concat()
}

/// What a tensor of `data/0` says of itself.
struct Described<'a> {
    class: &'a str,
    key: &'a str,
    len: i64,
    offset: i64,
    size: &'a [i64],
    stride: &'a [i64],
}

const GOOD: Described = Described {
    class: "FloatStorage",
    key: "0",
    len: 4,
    offset: 0,
    size: &[2, 2],
    stride: &[2, 1],
};

impl Described<'_> {
    fn pickle(&self) -> Vec<u8> {
        [
            &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
            &text("storage"),
            format!("ctorch\n{}\n", self.class).as_bytes(),
            &text(self.key),
            &text("cpu"),
            &integer(self.len),
            b"tQ",
            &integer(self.offset),
            &tuple(self.size),
            &tuple(self.stride),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    }
}

/// A pickled dictionary of these names and pickled values.
fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [text(name), value.clone()].concat())
        .collect();
    [b"\x80\x02}(", &entries[..], b"u."].concat()
}

#[test]
fn the_builders_make_good_files() {
    let dict = read_bytes(&with_pickle(&dict(&[("a", GOOD.pickle())]))).unwrap();
    assert_eq!(dict.0.len(), 1);
    assert_eq!(
        dict.get("a"),
        Some(&Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu)))
    );
}

#[test]
fn tensors_that_contradict_their_storage() {
    let cases = [
        (
            Described { offset: 1, ..GOOD },
            "reaches beyond the 4 elements",
        ),
        (Described { offset: -1, ..GOOD }, "strides"),
        (
            Described {
                offset: i64::MAX,
                ..GOOD
            },
            "reaches beyond",
        ),
        (
            Described {
                size: &[2, 3],
                ..GOOD
            },
            "reaches beyond",
        ),
        (
            Described {
                size: &[-2, 2],
                ..GOOD
            },
            "impossible shape",
        ),
        (
            Described {
                size: &[1 << 40, 1 << 40],
                ..GOOD
            },
            "impossible shape",
        ),
        (
            Described {
                size: &[0, 1 << 40, 1 << 40],
                stride: &[1, 1, 1],
                ..GOOD
            },
            "impossible shape",
        ),
        (Described { size: &[4], ..GOOD }, "strides"),
        (
            Described {
                stride: &[2, -1],
                ..GOOD
            },
            "reaches beyond",
        ),
        (
            Described {
                stride: &[i64::MAX, 1],
                ..GOOD
            },
            "reaches beyond",
        ),
        (
            Described {
                stride: &[i64::MAX, i64::MAX],
                ..GOOD
            },
            "reaches beyond",
        ),
        (
            Described {
                size: &[1; 65],
                stride: &[1; 65],
                ..GOOD
            },
            "65 dimensions",
        ),
        (
            Described {
                size: &[1 << 40],
                stride: &[0],
                ..GOOD
            },
            "repeats its elements without end",
        ),
        (
            Described { len: 5, ..GOOD },
            "has 16 bytes, but its shape and type need 20",
        ),
        (
            Described { len: 3, ..GOOD },
            "has 16 bytes, but its shape and type need 12",
        ),
        (Described { len: -4, ..GOOD }, "impossible shape"),
        (
            Described {
                len: i64::MAX,
                ..GOOD
            },
            "impossible shape",
        ),
        (
            Described {
                class: "DoubleStorage",
                ..GOOD
            },
            "need 32",
        ),
        (
            Described {
                class: "Tensor",
                ..GOOD
            },
            "class torch.Tensor",
        ),
        (Described { key: "1", ..GOOD }, "has no data/1"),
        (
            Described {
                key: "../../../etc/passwd",
                ..GOOD
            },
            "has no data/../../../etc/passwd",
        ),
        (Described { key: "", ..GOOD }, "has no data/"),
    ];
    for (described, phrase) in cases {
        let message = refusal(&with_pickle(&dict(&[("a", described.pickle())])));
        assert!(message.contains(phrase), "{phrase}: {message}");
    }
    let halves = Described {
        class: "HalfStorage",
        len: 8,
        ..GOOD
    };
    let message = refusal(&with_pickle(&dict(&[
        ("a", GOOD.pickle()),
        ("b", halves.pickle()),
    ])));
    assert!(message.contains("in two ways"), "{message}");
    let truth = Described {
        class: "BoolStorage",
        size: &[4],
        stride: &[1],
        ..GOOD
    };
    let pickle = dict(&[("a", truth.pickle())]);
    let bytes = archive(&[("model/data.pkl", &pickle), ("model/data/0", &[0, 1, 2, 1])]);
    assert!(refusal(&bytes).contains("truth values"));
}

#[test]
fn names_that_clash_or_deceive() {
    let twice = dict(&[("a", GOOD.pickle()), ("a", GOOD.pickle())]);
    assert!(refusal(&with_pickle(&twice)).contains("two tensors named a"));
    let escape = dict(&[("\u{1b}[2J", GOOD.pickle())]);
    assert!(refusal(&with_pickle(&escape)).contains(r"isn't printable: \u{1b}[2J"));
}

#[test]
fn programs_that_no_state_dict_needs() {
    let cases: [(&str, &[u8], &str); 28] = [
        ("nothing", b"", "ends in the middle"),
        ("no end", b"\x80\x02}", "ends in the middle"),
        ("no value", b"\x80\x02.", "without its values"),
        ("two values", b"}}.", "more than one value"),
        (
            "system",
            b"cposix\nsystem\n(X\x04\x00\x00\x00lstR.",
            "class posix.system",
        ),
        (
            "eval",
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
            "class builtins.eval",
        ),
        ("class without a name", b"NN\x93.", "class without a name"),
        ("class name without end", b"cos", "ends in the middle"),
        (
            "class of control characters",
            b"c\x1b[2J\n\x07\n.",
            r"class \u{1b}[2J.\u{7}",
        ),
        (
            "new object",
            b"ccollections\nOrderedDict\n)\x81.",
            "instruction 0x81 (at byte 26)",
        ),
        (
            "instance of protocol 0",
            b"(i__main__\nX\n.",
            "instruction 0x69",
        ),
        ("extension", b"\x82\x01.", "instruction 0x82"),
        ("persistent text", b"Pid\n.", "instruction 0x50"),
        ("out of band", b"\x97.", "instruction 0x97"),
        (
            "a call of a call",
            b"ccollections\nOrderedDict\n)R)R.",
            "isn't a function",
        ),
        (
            "a call with arguments",
            b"ccollections\nOrderedDict\n(NtR.",
            "unknown arguments",
        ),
        ("a storage of nothing", b"NQ.", "without a description"),
        ("a storage of a tuple", b")Q.", "unknown description"),
        ("attributes of None", b"N}b.", "attributes on something"),
        ("items of None", b"N(u.", "isn't a dictionary"),
        ("odd items", b"}(Nu.", "key without a value"),
        ("append to a dictionary", b"}Na.", "isn't a list"),
        ("no mark", b"}u.", "without its mark"),
        ("below the mark", b"N(0.", "without its values"),
        ("memo gap", b"}r\xff\xff\xff\xff.", "gap in its memo"),
        ("memo miss", b"h\x07.", "doesn't exist"),
        (
            "long integer",
            b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.",
            "more than 64 bits",
        ),
        (
            "text that isn't",
            b"X\x02\x00\x00\x00\xc3\x28.",
            "isn't UTF-8",
        ),
    ];
    for (name, pickle, phrase) in cases {
        let message = refusal(&with_pickle(pickle));
        assert!(message.contains(phrase), "{name}: {message}");
    }
    for pickle in [
        &b"X\xff\xff\xff\xffabc."[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
    ] {
        let (message, peak) = peak(|| refusal(&with_pickle(pickle)));
        assert!(message.contains("ends in the middle"), "{message}");
        assert!(peak < 100_000, "{peak}");
    }
}

/// Bombs: what they would unfold to has no bound; what they cost here is bounded by constants.
#[test]
fn programs_that_unfold() {
    // A dictionary that holds itself, and one that holds itself as its key.
    assert!(refusal(&with_pickle(b"}q\x00X\x01\x00\x00\x00ah\x00s.")).contains("(a dictionary)"));
    assert!(refusal(&with_pickle(b"}q\x00h\x00h\x00s.")).contains("another key (a dictionary)"));
    // A list in itself, a million tuples in each other, forty tuples of ten of the one before.
    assert!(refusal(&with_pickle(b"]q\x00h\x00a.")).contains("doesn't hold a dictionary"));
    let nested = [&b")"[..], &[0x85; 500_000], b"."].concat();
    assert!(refusal(&with_pickle(&nested)).contains("doesn't hold a dictionary"));
    let mut laughs = b")q\x00".to_vec();
    for _ in 0..40 {
        laughs.extend(b"0(");
        laughs.extend([b'h', 0].repeat(10));
        laughs.extend(b"tq\x00");
    }
    laughs.push(b'.');
    assert!(refusal(&with_pickle(&laughs)).contains("doesn't hold a dictionary"));

    let mut worst = 0;
    for step in [
        &b"N"[..],
        b"(",
        b")",
        b"}",
        b"N\x94",
        b"N0",
        b"}2",
        b"K\x01\x85",
        b"]2a",
        b"(NNNNt",
    ] {
        let pickle = [b"N", &step.repeat((8 << 20) / step.len())[..]].concat();
        let file = with_pickle(&pickle);
        let start = std::time::Instant::now();
        let (message, peak) = peak(|| refusal(&file));
        assert!(message.contains("values"), "{step:?}: {message}");
        assert!(start.elapsed().as_secs() < 5);
        worst = worst.max(peak - pickle.len());
    }
    println!("8 MiB of one instruction: at most {worst} bytes beyond the pickle itself");
    assert!(worst < 24 << 20, "{worst}");
}

#[test]
fn archives_that_contradict_themselves() {
    let pickle = dict(&[("a", GOOD.pickle())]);
    let good = with_pickle(&pickle);
    let data = good
        .windows(16)
        .position(|window| window == [0; 16])
        .unwrap();
    let mut flipped = good.clone();
    flipped[data + 3] ^= 1;
    assert!(
        refusal(&flipped).contains("hecksum"),
        "{}",
        refusal(&flipped)
    );
    let at = good
        .windows(6)
        .position(|window| window == b"rebuil")
        .unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    assert!(
        refusal(&flipped).contains("hecksum"),
        "{}",
        refusal(&flipped)
    );

    let folders = archive(&[
        ("a/data.pkl", &pickle),
        ("b/data.pkl", &pickle),
        ("a/data/0", &[0; 16]),
    ]);
    assert!(refusal(&folders).contains("not a PyTorch state dict"));
    for name in ["data.pkl", "a/b/data.pkl", "../data.pkl/x", "/etc/data.pkl"] {
        let message = refusal(&archive(&[(name, &pickle), ("a/data/0", &[0; 16])]));
        assert!(
            message.contains("not a PyTorch state dict"),
            "{name}: {message}"
        );
    }
    // Its storage is where it was, in a folder named "..": names are looked up, never opened.
    assert!(
        read_bytes(&archive(&[
            ("../data.pkl", &pickle),
            ("../data/0", &[0; 16])
        ]))
        .is_ok()
    );

    let big = archive(&[
        ("a/data.pkl", &pickle),
        ("a/byteorder", b"big"),
        ("a/data/0", &[0; 16]),
    ]);
    assert!(refusal(&big).contains("big-endian"));

    // The directory's entry of data/0 renamed to a second data.pkl; its local header still says data/0.
    let directory = good
        .windows(4)
        .position(|window| window == b"PK\x01\x02")
        .unwrap();
    let mut renamed = good.clone();
    let at = directory
        + good[directory..]
            .windows(12)
            .position(|w| w == b"model/data/0")
            .unwrap();
    renamed[at..at + 12].copy_from_slice(b"model/data/1");
    assert!(
        refusal(&renamed).contains("damaged"),
        "{}",
        refusal(&renamed)
    );

    // Sizes that the file doesn't have: in the directory alone, and in both places.
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
    let tensors = vec![
        ("a".to_string(), Tensor::from_slice(&[1.0_f32, 2.0, 3.0])),
        ("b".to_string(), Tensor::from_slice(&[4_i64, 5])),
    ];
    for name in ["model.pt", "model.safetensors"] {
        let path = folder.path().join(name);
        write(
            &path,
            &StateDict(
                tensors
                    .iter()
                    .map(|(n, t)| (n.clone(), t.shallow_clone()))
                    .collect(),
            ),
        )
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            refusal(&bytes[..len]);
        }
        assert!(read_bytes(&bytes).is_ok());
    }
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn safetensors_that_contradict_themselves() {
    let entry = |text: &str| format!("{{{text}}}");
    let cases: [(&str, usize); 12] = [
        (r#""a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#, 8),
        (
            r#""a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#,
            12,
        ),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#, 8),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, 9),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, 7),
        (
            r#""a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#,
            8,
        ),
        (
            r#""a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}"#,
            0,
        ),
        (
            r#""a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}"#,
            0,
        ),
        (r#""a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}"#, 8),
        (
            r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
            4,
        ),
        (
            r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
            8,
        ),
        (
            r#""\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
            4,
        ),
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

    // The costliest header: a shape of as many dimensions as there is room for.
    let dimensions = vec!["0"; 520_000].join(",");
    let header = format!(r#""a":{{"dtype":"F32","shape":[{dimensions}],"data_offsets":[0,0]}}"#);
    let (message, peak) = peak(|| refusal(&safetensors(&entry(&header), &[])));
    assert!(message.contains("dimensions"), "{message}");
    println!("a safetensors header of 1 MiB: {peak} bytes at most");
    assert!(peak < 40 << 20);
}
