//! Measures of networks, compared with PyTorch and NumPy.

mod common;
#[path = "common/tensors.rs"]
#[allow(dead_code)] // the comparisons of tensors and gradients
mod tensors;

use common::reference;
use serde_json::{Value, json};
use tch::Device;
use tensors::{generator_lock, spread, write};
use vitlab::data::{FashionMnist, Source, seed_everything};
use vitlab::evidence::Measures;
use vitlab::learner::{Learner, ModelKind};
use vitlab::model::Model;
use vitlab::{Config, Result, checkpoint};

/// Asserts that all values of `expected` are in `ours`, numbers within 1e-5.
fn assert_close(ours: &Value, expected: &Value, place: &str) {
    match expected {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| assert_close(&ours[name], value, &format!("{place}.{name}")));
        }
        Value::Array(values) => {
            assert_eq!(ours.as_array().map(Vec::len), Some(values.len()), "{place}");
            values.iter().enumerate().for_each(|(i, value)| assert_close(&ours[i], value, &format!("{place}[{i}]")));
        }
        Value::Number(number) => {
            let (number, ours) = (number.as_f64().expect("a number"), ours.as_f64());
            assert!(ours.is_some_and(|ours| (ours - number).abs() < 1e-5), "{place}: {ours:?} instead of {number}");
        }
        value => assert_eq!(ours, value, "{place}"),
    }
}

#[test]
fn measures_equal_pytorch() -> Result<()> {
    let _lock = generator_lock();
    // More images than a pass has, and three layers, whose halves differ.
    let config = Config {
        train_images: Some(60),
        test_images: Some(130),
        embed_dim: 32,
        n_attention_heads: 2,
        n_layers: 3,
        patch_size: 7,
        dropout: 0.0,
        ..Config::default()
    };
    let data = FashionMnist::read(&Source::Synthetic, &config, Device::Cpu)?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    seed_everything(4);
    let make = |kind, name: &str, deviation| -> Result<Learner> {
        let learner = Learner::create(kind, &config, Device::Cpu)?;
        spread(learner.variables(), deviation);
        checkpoint::write(path(name), &checkpoint::state_dict(learner.variables()))?;
        Ok(learner)
    };
    let vit = make(ModelKind::Vit, "vit.pt", 0.2)?;
    let deit = make(ModelKind::Deit, "deit.pt", 0.2)?;
    let teacher = [make(ModelKind::Cnn, "teacher.pt", 0.02)?];
    let (test, train) = (&data.test, &data.train);
    let images = [("test", &test.images), ("test_labels", &test.labels)];
    write(
        &path("data.safetensors"),
        &[&images[..], &[("train", &train.images), ("train_labels", &train.labels)]].concat(),
    )?;
    let sizes = json!({"embed": 32, "layers": 3, "heads": 2, "patch": 7});
    std::fs::write(path("sizes.json"), sizes.to_string()).expect("a file");
    reference("measures.py", &[folder.path()]);

    for (name, learner, teachers) in [("vit", &vit, &[][..]), ("deit", &deit, &teacher[..])] {
        let measures = Measures::of(learner, teachers, &config, &data)?;
        let file = path(&format!("{name}.measures.json"));
        measures.write(&file)?;
        assert_eq!(Measures::read(&file)?, measures);
        let read =
            |path| -> Value { serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON") };
        let (ours, expected) = (read(file), read(path(&format!("{name}.json"))));
        assert_close(&ours, &expected, name);
        assert_eq!((ours["test_images"].clone(), ours["map_images"].clone()), (json!(130), json!(130)));
    }
    let cnn = Measures::of(&teacher[0], &[], &config, &data)?;
    assert_eq!((cnn.shifts.len(), cnn.attention, cnn.heads, cnn.tokens), (5, None, None, None));
    Ok(())
}

#[test]
fn damaged_measures_are_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("seed1.measures.json");
    std::fs::write(&path, r#"{"accuracy": 1.0}"#).expect("a file");
    let message = Measures::read(&path).expect_err("fields are missing").to_string();
    assert!(message.contains("seed1.measures.json: doesn't hold a network's measures"), "{message}");
}
