//! Shards, folders and NumPy's archives; and files in place of a checkpoint.

use std::fs;

use super::*;

/// Copies the files of a folder into another.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn shards() {
    for (folder, index) in
        [("sharded_safetensors", "model.safetensors.index.json"), ("sharded_bin", "pytorch_model.bin.index.json")]
    {
        for path in [file(folder), file(folder).join(index)] {
            let found = Checkpoint::open(path, None).unwrap();
            assert_content(&found, "weights");
            assert_eq!(found.config.unwrap()["num_attention_heads"], 2);
        }
        let first = if folder.ends_with("bin") {
            "pytorch_model-00001-of-00002.bin"
        } else {
            "model-00001-of-00002.safetensors"
        };
        let damaged = tempfile::tempdir().unwrap();
        let part = damaged.path().join(first);
        let index = damaged.path().join(index);
        let text = fs::read_to_string(file(folder).join(index.file_name().unwrap())).unwrap();
        copy(&file(folder), damaged.path());

        fs::write(&index, text.replace("\"norm.bias\"", "\"norm.other\"")).unwrap();
        let message = refusal(damaged.path(), None);
        assert!(message.contains("lacks the tensor norm.other"), "{message}");
        for name in ["../secret", "/etc/passwd", "..", "", "a\\\\b", "C:x", "\\u001b[2J"] {
            fs::write(&index, text.replace(first, name)).unwrap();
            let message = refusal(&index, None);
            assert!(message.contains("which is no file of its folder"), "{name}: {message}");
        }
        // An index that names itself.
        fs::write(&index, text.replace(first, index.file_name().unwrap().to_str().unwrap())).unwrap();
        assert!(refusal(&index, None).contains("is a JSON file, not a shard"));
        fs::write(&index, &text).unwrap();
        fs::remove_file(part).unwrap();
        let message = refusal(&index, None);
        assert!(message.contains(&format!("needs {first} beside it, which is missing")), "{message}");
    }
}

#[test]
fn archives_of_numpy() {
    for name in ["arrays.npz", "compressed.npz"] {
        let found = Checkpoint::open(file(name), None).unwrap();
        assert_content(&found, "arrays");
    }
    let message = refusal(file("big_endian.npz"), None);
    assert!(message.contains("its tensor a is of NumPy's type >f4"), "{message}");
}

#[test]
fn a_folder_with_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(refusal(folder.path(), None).contains("a folder without a checkpoint"));
    fs::copy(file("state_dict.5.pt"), path("run.ckpt")).unwrap();
    fs::write(path("notes.txt"), "notes").unwrap();
    assert_content(&Checkpoint::open(folder.path(), None).unwrap(), "weights");
    // The same checkpoint in two formats, as a training writes it.
    Checkpoint::open(path("run.ckpt"), None).unwrap().write(path("run.safetensors")).unwrap();
    assert_content(&Checkpoint::open(folder.path(), None).unwrap(), "weights");
    fs::copy(file("ema.5.pt"), path("other.pt")).unwrap();
    let message = refusal(folder.path(), None);
    assert!(message.contains("several checkpoints (run.safetensors, other.pt, run.ckpt)"), "{message}");
    // Hugging Face's names come first.
    copy(&file("hub"), folder.path());
    let found = Checkpoint::open(folder.path(), None).unwrap();
    assert_content(&found, "weights");
    assert_eq!(found.config.unwrap()["num_attention_heads"], 3);
    assert_eq!(found.preprocessor.unwrap()["size"], 224);
    fs::write(path("config.json"), "{\"model_type\": ").unwrap();
    let message = refusal(folder.path(), None);
    assert!(message.contains("config.json: isn't valid JSON"), "{message}");
}

#[test]
fn files_in_place_of_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let cases: [(&[u8], &str); 9] = [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346293852\n",
            "is a Git LFS pointer in place of the file of 346293852 bytes; in its repository, run `git lfs install`",
        ),
        (b"<!doctype html><html><head></head></html>", "is a web page in place of the file"),
        (b"\n  <HTML>\n", "is a web page"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
        (b"{\"a\": 1}", "is a JSON file, but no index"),
        (b"{\n  \"weight_map\": 3}", "is a JSON file, but no index"),
        (b"\x89PNG\r\n\x1a\n0000", "is a picture"),
        (b"", "is empty"),
        (b"some text that is no checkpoint", "neither a PyTorch state dict nor a safetensors file"),
    ];
    for (bytes, phrase) in cases {
        fs::write(&path, bytes).unwrap();
        let message = refusal(&path, None);
        assert!(message.contains(phrase), "{phrase}: {message}");
    }
    let message = refusal(folder.path().join("nothing.pt"), None);
    assert!(
        message.ends_with("nothing.pt: can't be read: there is no such file or folder; check the path"),
        "{message}"
    );
    let message = refusal("nobody/vit-base-patch16-224", None);
    assert!(message.contains("give hf://nobody/vit-base-patch16-224"), "{message}");
}

#[cfg(unix)]
#[test]
fn pipes_do_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.pt", "config.json"] {
        let made = Command::new("mkfifo").arg(folder.path().join(name)).status();
        assert!(made.unwrap().success());
    }
    assert!(refusal(folder.path().join("model.pt"), None).contains("isn't a file"));
    fs::copy(file("hub").join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let message = refusal(folder.path(), None);
    assert!(message.contains("config.json: isn't a file"), "{message}");
}
