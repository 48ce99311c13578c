//! Pickles with opcodes that no state dict needs, with views that contradict their storages, or that expand without end.

use tch::{Device, Kind, Tensor};

use super::archive::{TensorPickle, VALID, archive, dict};
use super::memory::peak;
use super::{read_bytes, refusal, with_pickle};

#[test]
fn the_builders_make_good_files() {
    let dict = read_bytes(&with_pickle(&dict(&[("a", VALID.bytes())]))).unwrap();
    assert_eq!(dict.0.len(), 1);
    assert_eq!(dict.get("a"), Some(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))));
}

#[test]
fn views_that_contradict_their_storage() {
    const HUGE: i64 = 1 << 40;
    let cases: [(i64, &[i64], &[i64], &str); 13] = [
        (1, &[2, 2], &[2, 1], "reaches beyond the 4 elements"),
        (-1, &[2, 2], &[2, 1], "strides"),
        (i64::MAX, &[2, 2], &[2, 1], "reaches beyond"),
        (0, &[2, 3], &[2, 1], "reaches beyond"),
        (0, &[-2, 2], &[2, 1], "impossible shape"),
        (0, &[HUGE, HUGE], &[2, 1], "impossible shape"),
        (0, &[0, HUGE, HUGE], &[1, 1, 1], "impossible shape"),
        (0, &[4], &[2, 1], "strides"),
        (0, &[2, 2], &[2, -1], "reaches beyond"),
        (0, &[2, 2], &[i64::MAX, 1], "reaches beyond"),
        (0, &[2, 2], &[i64::MAX, i64::MAX], "reaches beyond"),
        (0, &[1; 65], &[1; 65], "65 dimensions"),
        (0, &[HUGE], &[0], "repeats its elements without end"),
    ];
    for (offset, size, stride, phrase) in cases {
        let view = TensorPickle { offset, size, stride, ..VALID };
        let message = refusal(&with_pickle(&dict(&[("a", view.bytes())])));
        assert!(message.contains(phrase), "{phrase}: {message}");
    }
}

fn stored<'a>(class: &'a str, key: &'a str, len: i64) -> TensorPickle<'a> {
    TensorPickle { class, key, len, ..VALID }
}

#[test]
fn storages_that_contradict_the_archive() {
    let cases = [
        (stored("FloatStorage", "0", 5), "has 16 bytes, but its shape and type need 20"),
        (stored("FloatStorage", "0", 3), "has 16 bytes, but its shape and type need 12"),
        (stored("FloatStorage", "0", -4), "impossible shape"),
        (stored("FloatStorage", "0", i64::MAX), "impossible shape"),
        (stored("DoubleStorage", "0", 4), "need 32"),
        (stored("Tensor", "0", 4), "class torch.Tensor"),
        (stored("QInt8Storage", "0", 4), "unsupported type (torch.QInt8Storage)"),
        (stored("FloatStorage", "1", 4), "has no data/1"),
        (stored("FloatStorage", "../../etc/passwd", 4), "has no data/../../etc/passwd"),
        (stored("FloatStorage", "", 4), "has no data/"),
    ];
    for (storage, phrase) in cases {
        let message = refusal(&with_pickle(&dict(&[("a", storage.bytes())])));
        assert!(message.contains(phrase), "{phrase}: {message}");
    }
    let halves = stored("HalfStorage", "0", 8);
    let pickle = dict(&[("a", VALID.bytes()), ("b", halves.bytes())]);
    assert!(refusal(&with_pickle(&pickle)).contains("in two ways"));
    let pickle = dict(&[("a", stored("BoolStorage", "0", 4).bytes())]);
    let bytes = archive(&[("model/data.pkl", &pickle), ("model/data/0", &[0, 1, 2, 1])]);
    assert!(refusal(&bytes).contains("truth values"));
}

#[test]
fn names_that_clash_or_deceive() {
    let twice = dict(&[("a", VALID.bytes()), ("a", VALID.bytes())]);
    assert!(refusal(&with_pickle(&twice)).contains("two tensors named a"));
    let escape = dict(&[("\u{1b}[2J", VALID.bytes())]);
    assert!(refusal(&with_pickle(&escape)).contains(r"isn't printable: \u{1b}[2J"));
}

#[test]
fn programs_that_no_state_dict_needs() {
    let cases: [(&str, &[u8], &str); 29] = [
        ("nothing", b"", "ends in the middle"),
        ("no end", b"\x80\x02}", "ends in the middle"),
        ("no value", b"\x80\x02.", "without its values"),
        ("two values", b"}}.", "more than one value"),
        ("system", b"cposix\nsystem\n(X\x02\x00\x00\x00lstR.", "class posix.system, which was not executed"),
        ("eval", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x02ls\x85R.", "class builtins.eval, which"),
        ("class without a name", b"NN\x93.", "class without a name"),
        ("class name without end", b"cos", "ends in the middle"),
        ("class of control characters", b"c\x1b[2J\n\x07\n)R.", r"class \u{1b}[2J.\u{7}"),
        ("new object", b"cevil\nClass\n)\x81.", "class evil.Class, which was not executed"),
        ("new object of a function", b"ctorch._utils\n_rebuild_tensor_v2\n)\x81.", "isn't a class"),
        ("instance of protocol 0", b"(i__main__\nX\n.", "opcode 0x69"),
        ("extension", b"\x82\x01.", "opcode 0x82"),
        ("persistent text", b"Pid\n.", "opcode 0x50"),
        ("out of band", b"\x97.", "opcode 0x97"),
        ("a call of a call", b"ccollections\nOrderedDict\n)R)R.", "isn't a function"),
        ("a call with arguments", b"ccollections\nOrderedDict\n(NtR.", "unknown arguments"),
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
        ("long integer", b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "doesn't hold a dictionary"),
        ("text that isn't", b"X\x02\x00\x00\x00\xc3\x28.", "isn't UTF-8"),
    ];
    for (name, pickle, phrase) in cases {
        let message = refusal(&with_pickle(pickle));
        assert!(message.contains(phrase), "{name}: {message}");
    }
    for pickle in [&b"X\xff\xff\xff\xffabc."[..], b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc."] {
        let (message, peak) = peak(|| refusal(&with_pickle(pickle)));
        assert!(message.contains("ends in the middle"), "{message}");
        assert!(peak < 100_000, "{peak}");
    }
}

/// Pickle bombs: expanded, their values would have no bound. Here constants bound their time and memory.
#[test]
fn programs_that_unfold() {
    // A dictionary that holds itself, and one that holds itself as its key.
    assert!(refusal(&with_pickle(b"}q\x00X\x01\x00\x00\x00ah\x00s.")).contains("(a dictionary)"));
    assert!(refusal(&with_pickle(b"}q\x00h\x00h\x00s.")).contains("another key (a dictionary)"));
    // A dictionary that is reached by many paths, each of which gets longer.
    let paths = [&b"}q\x00"[..], &b"X\x01\x00\x00\x00ah\x00s".repeat(1000), b"."].concat();
    assert!(refusal(&with_pickle(&paths)).contains("holds no dictionary of tensors"));
    // A list that holds itself; 200,000 nested tuples; 40 tuples, each of ten references to the one before.
    assert!(refusal(&with_pickle(b"]q\x00h\x00a.")).contains("doesn't hold a dictionary"));
    let nested = [&b")"[..], &[0x85; 200_000], b"."].concat();
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
    // The stack grows once and shrinks again: later tuples must not keep its capacity.
    let grown = [b"N".repeat(100_000), b"0".repeat(99_999)].concat();
    let steps = [
        &b"N"[..],
        b"(",
        b")",
        b"}",
        b"N\x94",
        b"N0",
        b"}2",
        b"K\x01\x85",
        b"]2a",
        b"(N",
        b"(Nt",
        b"(NNNNt",
        b"N\x850",
        b"ca\nb\n",
        b"ca\nb\n)R",
        b"]q\x00]h\x00a",
        b"\x8f",
    ];
    for (start, step) in steps.map(|step| (&b"N"[..], step)).into_iter().chain([(&grown[..], &b"0N\x85"[..])]) {
        let pickle = [start, &step.repeat((8 << 20) / step.len())].concat();
        let file = with_pickle(&pickle);
        let begin = std::time::Instant::now();
        let (message, peak) = peak(|| refusal(&file));
        assert!(message.contains("values"), "{step:?}: {message}");
        assert!(begin.elapsed().as_secs() < 5);
        worst = worst.max(peak - pickle.len());
    }
    println!("8 MiB of one opcode: at most {worst} bytes beyond the pickle itself");
    assert!(worst < 24 << 20, "{worst}");
}
