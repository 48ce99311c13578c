//! The description of a model stays with its tensors through every conversion.

use std::collections::BTreeMap;
use std::fs;

use vitlab::train::History;
use vitlab::{Config, checkpoint};

use super::*;

/// Reads, writes in both formats and reads again: the same bits, the same metadata, the same description.
fn assert_round_trip(path: &Path, entry: Option<&str>) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let original = Checkpoint::open_unchanged(path, entry).unwrap();
    let mut written =
        original.write(folder.path().join("0.safetensors")).map(|()| folder.path().join("0.safetensors")).unwrap();
    let mut texts = None;
    // Into each format from each.
    for (round, ending) in ["safetensors", "pt", "pth", "safetensors", "pt"].iter().enumerate() {
        let next = folder.path().join(format!("{}.{ending}", round + 1));
        let checkpoint = Checkpoint::open_unchanged(&written, None).unwrap();
        assert_eq!(sorted(content(&checkpoint.tensors)), sorted(content(&original.tensors)), "{}", path.display());
        assert_eq!(checkpoint.config, original.config, "{}", path.display());
        assert_eq!(checkpoint.preprocessor, original.preprocessor, "{}", path.display());
        for (name, text) in &original.metadata {
            assert_eq!(checkpoint.metadata.get(name), Some(text), "{}", path.display());
        }
        let before = texts.replace(checkpoint.metadata.clone());
        assert!(before.is_none_or(|before| before == checkpoint.metadata), "{}", path.display());
        checkpoint.write(&next).unwrap();
        written = next;
    }
    original
}

#[test]
fn every_kind_of_file_that_is_read() {
    for name in ["state_dict.2.pt", "model.5.pt", "model.legacy.ckpt", "odd.5.pt", "arrays.npz", "compressed.npz"] {
        assert_round_trip(&file(name), None);
    }
    assert_round_trip(&file("dino.5.pt"), Some("teacher"));
    for name in ["sharded_safetensors", "sharded_bin", "hub"] {
        let original = assert_round_trip(&file(name), None);
        assert!(original.config.is_some(), "{name}");
    }
    for name in ["ViT_model.pt", "DeiT_model.pt", "teacher_model.pt"] {
        let original = assert_round_trip(&Path::new("../models").join(name), None);
        assert!(original.config.unwrap()["N_ATTENTION_HEADS"].is_number(), "{name}");
    }
}

#[test]
fn a_history_stays_a_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (from, to) in [("../models/ViT_model.pt", "a.safetensors"), ("a.safetensors", "b.pt")] {
        let from = if from.starts_with("..") { PathBuf::from(from) } else { path(from) };
        let (good, said, problem) = run(vitlab().arg("convert").arg(from).arg(path(to)));
        assert!(good, "{said}{problem}");
    }
    let original = History::read("../models/ViT_model.json").unwrap();
    assert_eq!(History::read(path("b.json")).unwrap(), original);
    let (_, metadata) = checkpoint::read_safetensors(path("a.safetensors")).unwrap();
    assert_eq!(Config::from_json(&metadata["config"]).unwrap(), original.config);
}

fn tiny(metadata: &[(&str, &str)]) -> Checkpoint {
    let tensors = checkpoint::StateDict(vec![("a".to_string(), vitlab::tch::Tensor::from_slice(&[1.0_f32]))]);
    let metadata: BTreeMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Checkpoint { tensors, metadata, ..Checkpoint::default() }
}

#[test]
fn foreign_metadata_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let cases: [&[(&str, &str)]; 7] = [
        &[("format", "pt"), ("größe", "ß\n\"quoted\"")],
        // Not in the form that this crate writes.
        &[("config", "{\"N_ATTENTION_HEADS\":  4, \"A\": 1}"), ("metadata", "x")],
        &[("config", "no JSON"), ("history", "[1]")],
        &[("config", "{\"N_ATTENTION_HEADS\":4}"), ("history", "{\"config\":{\"N_ATTENTION_HEADS\":8},\"epochs\":[]}")],
        &[("history", "{\"config\":{\"N_ATTENTION_HEADS\":8},\"epochs\":[]}"), ("preprocessor_config", "{\"a\":1}")],
        &[("history", "{\"epochs\":[]}")],
        &[],
    ];
    for (index, texts) in cases.iter().enumerate() {
        let (one, two) = (path(&format!("{index}.safetensors")), path(&format!("{index}b.pt")));
        let original = tiny(texts);
        original.write(&one).unwrap();
        let read = Checkpoint::open(&one, None).unwrap();
        assert_eq!(read.metadata, original.metadata);
        read.write(&two).unwrap();
        let again = Checkpoint::open(&two, None).unwrap();
        for (name, text) in &original.metadata {
            assert_eq!(again.metadata.get(name), Some(text), "{texts:?}");
        }
        assert_eq!((&again.config, &again.preprocessor), (&read.config, &read.preprocessor), "{texts:?}");
        assert_eq!(path(&format!("{index}b.json")).exists(), !texts.is_empty());
    }
    let heads = |index: usize| Checkpoint::open(path(&format!("{index}.safetensors")), None).unwrap().config;
    assert_eq!(heads(1).unwrap()["N_ATTENTION_HEADS"], 4);
    assert!(heads(2).is_none());
    assert_eq!(heads(3).unwrap()["N_ATTENTION_HEADS"], 4);
    assert_eq!(heads(4).unwrap()["N_ATTENTION_HEADS"], 8);
}

#[test]
fn a_description_too_large_for_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let names: BTreeMap<String, String> = (0..20_000).map(|i| (i.to_string(), format!("class {i}"))).collect();
    let config = serde_json::json!({"model_type": "vit", "id2label": names});
    Checkpoint { config: Some(config.clone()), ..tiny(&[]) }.write(&path).unwrap();
    assert!(checkpoint::read_safetensors(&path).unwrap().1.is_empty());
    assert_eq!(Checkpoint::open(&path, None).unwrap().config, Some(config));
}

#[test]
fn files_that_are_there_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("out.json"), "{\"config\": {\"EMBED_DIM\": 32}}").unwrap();
    tiny(&[("config", "{\"EMBED_DIM\":64}")]).write(path("in.safetensors")).unwrap();
    let (good, _, said) = run(vitlab().arg("convert").arg(path("in.safetensors")).arg(path("out.pt")));
    assert!(good && said.contains("out.json beside it was there before and stays"), "{said}");
    assert_eq!(fs::read_to_string(path("out.json")).unwrap(), "{\"config\": {\"EMBED_DIM\": 32}}");
    // JSON files that describe no model aren't used, and damaged ones are errors.
    fs::write(path("out.json"), "[1, 2]").unwrap();
    assert_eq!(Checkpoint::open(path("out.pt"), None).unwrap().config, None);
    fs::write(path("out.json"), "{\"config\": ").unwrap();
    assert!(refusal(path("out.pt"), None).contains("out.json: isn't valid JSON"));
}

#[test]
fn the_model_of_a_training_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ViT_model_checkpoint.safetensors");
    let tensor = || vitlab::tch::Tensor::from_slice(&[1.0_f32]);
    let names = ["model.a", "model.b.c", "optimizer.exp_avg"];
    let tensors = checkpoint::StateDict(names.iter().map(|name| (name.to_string(), tensor())).collect());
    let history = History { config: Config { n_attention_heads: 8, ..Config::default() }, ..History::default() };
    let metadata = BTreeMap::from([
        ("format".to_string(), "vitlab checkpoint".to_string()),
        ("history".to_string(), serde_json::to_string(&history).unwrap()),
    ]);
    checkpoint::write_safetensors(&path, &tensors, &metadata).unwrap();
    let found = Checkpoint::open(&path, None).unwrap();
    let names: Vec<&str> = found.tensors.0.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["a", "b.c"]);
    assert_eq!(found.config.unwrap()["N_ATTENTION_HEADS"], 8);
}
