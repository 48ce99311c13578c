//! Checkpoint files exchanged with PyTorch in both directions, bit for bit, and state dicts copied into models.

mod archive;
mod common;
mod content;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use archive::{VALID, archive, dict};
use common::reference;
use content::{Content, content, sorted};
use tch::{Device, Kind, Tensor, nn};
use vitlab::checkpoint::{StateDict, assign, read, read_safetensors, state_dict, write, write_safetensors};

/// A folder of files that PyTorch writes once for all tests of this program.
static PYTORCH_FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    reference("weights.py", &["make".as_ref(), folder.path()]);
    folder
});

fn pytorch_file(name: &str) -> PathBuf {
    PYTORCH_FILES.path().join(name)
}

fn expected_content(name: &str) -> Content {
    let text = std::fs::read_to_string(pytorch_file(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

const NAMES: [&str; 16] = [
    "dtypes",
    "views",
    "parameters",
    "vit",
    "parallel",
    "cnn",
    "protocol3",
    "protocol4",
    "protocol5",
    "names",
    "no_tensors",
    "vit_small_patch16_224",
    // In the format before PyTorch 1.6.
    "legacy_dtypes",
    "legacy_views",
    "legacy_parameters",
    "legacy_protocol4",
];

#[test]
fn reads_what_pytorch_saves() {
    for name in NAMES {
        let expected = expected_content(name);
        let dict = read(pytorch_file(&format!("{name}.pt"))).unwrap();
        assert_eq!(content(&dict), expected, "{name}.pt");
        let (dict, metadata) = read_safetensors(pytorch_file(&format!("{name}.safetensors"))).unwrap();
        assert_eq!(sorted(content(&dict)), sorted(expected), "{name}.safetensors");
        assert_eq!(metadata["made by"], "PyTorch");
    }
}

#[test]
fn shared_storages_stay_shared() {
    for file in ["views.pt", "legacy_views.pt"] {
        let dict = read(pytorch_file(file)).unwrap();
        let address = |name: &str| dict.get(name).unwrap().data_ptr();
        assert_eq!(address("tied"), address("tied_too"));
        assert_eq!(address("whole"), address("transposed"));
        assert_ne!(address("whole"), address("tied"));
        assert_eq!(dict.get("expanded").unwrap().stride(), [0, 1]);
    }
}

/// As PyTorch 0.3 wrote it under Python 2: items in lists, texts in bytes, a tensor in a part of a storage.
#[test]
fn a_file_of_python_2() {
    let pickles = [
        &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}U\x0dlittle_endian\x88s."[..],
        b"\x80\x02ccollections\nOrderedDict\n]]U\x01aa",
        // ("storage", FloatStorage, "0", "cpu", 6, ("v", 2, 4)), then the view: offset, size, stride.
        b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06(U\x01vK\x02K\x04ttQ",
        b"K\x00K\x02K\x02\x86K\x02K\x01\x86tRaa\x85R.",
        b"\x80\x02]U\x010a.",
    ]
    .concat();
    let numbers: Vec<u8> = (0..6).flat_map(|number| (number as f32).to_le_bytes()).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.pt");
    std::fs::write(&path, [&pickles, &6_u64.to_le_bytes()[..], &numbers].concat()).unwrap();
    let dict = read(&path).unwrap();
    assert_eq!(dict.get("a"), Some(&Tensor::from_slice(&[2.0_f32, 3.0, 4.0, 5.0]).view([2, 2])));
    // A part beyond its storage.
    let mut bytes = std::fs::read(&path).unwrap();
    let part = bytes.windows(3).position(|window| window == b"U\x01v").unwrap();
    bytes[part + 4] = 3;
    std::fs::write(&path, bytes).unwrap();
    assert!(refusal(&path).contains("a part beyond its storage"));
}

/// PyTorch names the folder in the archive after the file. Some lengths resemble other records of a zip archive.
#[test]
fn file_names_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let pickle = dict(&[("a", VALID.bytes())]);
    for len in 1..=64 {
        for letter in ["m", "ß"] {
            let stem = letter.repeat(len);
            let names = ["data.pkl", "byteorder", "data/0", "version"].map(|name| format!("{stem}/{name}"));
            let contents: [&[u8]; 4] = [&pickle, b"little", &[0; 16], b"3\n"];
            let entries: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(contents).collect();
            let path = folder.path().join(format!("{stem}.pt"));
            std::fs::write(&path, archive(&entries)).unwrap();
            let read = read(&path).unwrap();
            assert_eq!(read.get("a"), Some(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))), "{len}");
        }
    }
}

#[test]
fn pytorch_reads_what_is_written_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut expected: Vec<Content> = Vec::new();
    for name in NAMES {
        let dict = read(pytorch_file(&format!("{name}.pt"))).unwrap();
        for extension in ["pt", "pth", "safetensors"] {
            let path = folder.path().join(format!("{name}.{extension}"));
            write(&path, &dict).unwrap();
            assert_eq!(sorted(content(&read(&path).unwrap())), sorted(expected_content(name)), "{name}.{extension}");
            files.push(path);
            expected.push(expected_content(name));
        }
    }
    let mut arguments = vec![Path::new("show")];
    arguments.extend(files.iter().map(PathBuf::as_path));
    let shown: Vec<Content> = serde_json::from_str(&reference("weights.py", &arguments)).unwrap();
    for ((path, shown), expected) in files.iter().zip(shown).zip(expected) {
        if path.extension().unwrap() == "safetensors" {
            assert_eq!(sorted(shown), sorted(expected), "{}", path.display());
        } else {
            assert_eq!(shown, expected, "{}", path.display());
        }
    }
}

/// The same variables as `SmallCnn` in tests/reference/weights.py.
fn small_cnn() -> nn::VarStore {
    let store = nn::VarStore::new(Device::Cpu);
    let root = store.root();
    let no_bias = nn::ConvConfig { bias: false, ..Default::default() };
    nn::conv2d(&root / "conv", 1, 4, 3, no_bias);
    nn::batch_norm2d(&root / "norm", 4, Default::default());
    nn::linear(&root / "head", 4, 10, Default::default());
    store
}

#[test]
fn strict_loading_in_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for extension in ["pt", "safetensors"] {
        let vit = path(&format!("vit.{extension}"));
        write(&vit, &read(pytorch_file("vit.pt")).unwrap()).unwrap();
        let cnn = path(&format!("cnn.{extension}"));
        write(&cnn, &state_dict(&small_cnn())).unwrap();
        for file in [vit, cnn] {
            let answer = reference("weights.py", &["strict".as_ref(), file.as_os_str()]);
            assert_eq!(answer.trim(), "<All keys matched successfully>");
        }
    }
}

#[test]
fn batch_norm_survives_every_format() {
    let cnn = read(pytorch_file("cnn.pt")).unwrap();
    assert_eq!(i64::try_from(cnn.get("norm.num_batches_tracked").unwrap()).unwrap(), 1);
    let folder = tempfile::tempdir().unwrap();
    for extension in ["pt", "safetensors"] {
        let store = small_cnn();
        assign(&store, &cnn, "cnn.pt".as_ref()).unwrap();
        let path = folder.path().join(format!("cnn.{extension}"));
        write(&path, &state_dict(&store)).unwrap();
        let again = small_cnn();
        assign(&again, &read(&path).unwrap(), &path).unwrap();
        let variables = again.variables();
        assert_eq!(variables.len(), 7);
        for (name, variable) in variables {
            assert_eq!(Some(&variable), cnn.get(&name), "{name}");
        }
    }
}

#[test]
fn all_differences_are_listed_and_nothing_is_changed() {
    let store = small_cnn();
    let before = state_dict(&store);
    let mut file = state_dict(&store);
    file.0.retain(|(name, _)| name != "conv.weight");
    for (name, tensor) in &mut file.0 {
        match name.as_str() {
            "head.weight" => *tensor = Tensor::zeros([100, 4], (Kind::Float, Device::Cpu)),
            "head.bias" => *tensor = Tensor::zeros([10], (Kind::Int64, Device::Cpu)),
            "norm.bias" => *tensor = Tensor::from_slice(&[0.0_f32, f32::NAN, 1.0, 2.0]),
            "norm.weight" => *tensor = Tensor::from_slice(&[0.0, 1e300, 1.0, 2.0]),
            "norm.running_mean" => *name = "norm.mean".to_string(),
            _ => {}
        }
    }
    let message = assign(&store, &file, "a/cnn.pt".as_ref()).unwrap_err().to_string();
    assert_eq!(
        message,
        "a/cnn.pt: head.bias is of type Int64, this model needs Float; \
         head.weight is [100, 4], this model needs [10, 4]; \
         norm.bias has values that are not finite numbers; \
         norm.mean is not part of this model; \
         norm.weight has values that are not finite numbers; \
         conv.weight is missing; \
         norm.running_mean is missing"
    );
    for ((name, after), (_, before)) in state_dict(&store).0.iter().zip(&before.0) {
        assert_eq!(after, before, "{name}");
    }
}

#[test]
fn other_floating_point_types_become_float32() {
    for kind in [Kind::Double, Kind::Half, Kind::BFloat16] {
        let store = small_cnn();
        let mut file = state_dict(&small_cnn());
        for (_, tensor) in file.0.iter_mut().filter(|(_, tensor)| tensor.kind() == Kind::Float) {
            *tensor = tensor.to_kind(kind);
        }
        assign(&store, &file, "cnn.pt".as_ref()).unwrap();
        for (name, variable) in store.variables() {
            let expected = file.get(&name).unwrap().to_kind(Kind::Float);
            assert_eq!(variable, expected, "{name} from {kind:?}");
        }
    }
}

#[test]
fn names_are_sorted_by_number() {
    let store = nn::VarStore::new(Device::Cpu);
    for block in [10, 2, 1] {
        let _ = store.root().sub("encoder").sub(block).zeros("fc1", &[1]);
    }
    let names: Vec<String> = state_dict(&store).0.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["encoder.1.fc1", "encoder.2.fc1", "encoder.10.fc1"]);
}

fn refusal(path: &Path) -> String {
    let message = read(path).unwrap_err().to_string();
    assert!(message.starts_with(path.to_str().unwrap()), "{message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let cases = [
        ("epoch.pt", r#"holds no dictionary of tensors, but "epoch" (a number), "losses" (a list)"#),
        ("model.pt", "class torch.nn.modules.linear.Linear"),
        ("list.pt", "doesn't hold a dictionary of tensors"),
        ("tensor.pt", "doesn't hold a dictionary of tensors"),
        ("complex.pt", "unsupported type (torch.ComplexFloatStorage)"),
        ("float8.pt", "unsupported type (torch._utils._rebuild_tensor_v3)"),
        ("uint16.pt", "unsupported type (torch._utils._rebuild_tensor_v3)"),
        ("sparse.pt", "unsupported type (torch._utils._rebuild_sparse_tensor)"),
        ("execute.pt", "class posix.system, which was not executed"),
        ("legacy_complex.pt", "unsupported type"),
        ("torchscript.pt", "is a TorchScript archive"),
        ("pickle.pt", "is a Python pickle"),
        ("array.npy", "is a single NumPy array"),
        ("objects.npz", "its tensor a is of NumPy's type |O"),
        ("deflated.pt", "is a compressed zip archive"),
        ("zip.pt", "is a zip archive, but not a PyTorch state dict"),
        ("float8.safetensors", "is of type F8_E4M3"),
    ];
    for (name, phrase) in cases {
        let message = refusal(&pytorch_file("refused").join(name));
        println!("{message}");
        assert!(message.contains(phrase), "{name}: {message}");
    }
    assert!(!Path::new("executed").exists());
    assert!(refusal(&pytorch_file("refused")).contains("isn't a file"));
    assert!(refusal(&pytorch_file("nothing.pt")).contains("can't be read: there is no such file"));
}

#[test]
fn tch_archives_are_named_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    small_cnn().save(&path).unwrap();
    assert!(refusal(&path).contains("is a TorchScript archive"));
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let good = StateDict(vec![("a".to_string(), Tensor::from_slice(&[1.0_f32]))]);
    let complex = Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu));
    let bad = StateDict(vec![("a".to_string(), complex)]);
    for name in ["model.pt", "model.safetensors"] {
        let path = folder.path().join(name);
        write(&path, &good).unwrap();
        let before = std::fs::read(&path).unwrap();
        let message = write(&path, &bad).unwrap_err().to_string();
        assert!(message.contains("a is of type ComplexFloat"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    let message = write(folder.path().join("model.bin"), &good).unwrap_err();
    assert!(message.to_string().contains(".pt, .pth or .safetensors"), "{message}");
    assert!(write_safetensors(folder.path(), &good, &Default::default()).is_err());
}

#[cfg(unix)]
#[test]
fn written_files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
        metadata.permissions().mode()
    };
    std::fs::write(folder.path().join("ordinary"), "").unwrap();
    write(folder.path().join("model.pt"), &StateDict::default()).unwrap();
    assert_eq!(mode("model.pt"), mode("ordinary"));
}
