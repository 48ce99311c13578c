//! Training end to end on synthetic data: it learns, repeats bit for bit, resumes, and explains its errors.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use tch::{Device, Kind, Tensor};
use vitlab::config::{Augmentation, Initialisation};
use vitlab::data::{FashionMnist, seed_everything, source::Source};
use vitlab::metrics::evaluate;
use vitlab::model::{Cnn, Model, MyDeiT, VisionTransformer};
use vitlab::train::{Epoch, History, Trainer, learning_rate, step_learning_rate};
use vitlab::{Config, Error, Result};

fn small() -> Config {
    Config {
        epochs: 2,
        warmup_epochs: 1,
        lr: 2e-3,
        batch_size: 32,
        embed_dim: 16,
        n_attention_heads: 2,
        n_layers: 2,
        patch_size: 7,
        train_images: Some(1_000),
        test_images: Some(200),
        ..Config::default()
    }
}

fn data(config: &Config) -> Result<FashionMnist> {
    FashionMnist::read(&Source::Synthetic, config, Device::Cpu)
}

/// Held during a training: libtorch has one random generator per process.
fn random_generator() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Trains until `stop` epochs are complete, starting from the checkpoint if there is one.
fn train(config: &Config, checkpoint: &Path, stop: usize) -> Result<(VisionTransformer, History)> {
    let _lock = random_generator();
    let data = data(config)?;
    seed_everything(config.seed);
    let model = VisionTransformer::new(config, Device::Cpu)?;
    let mut trainer = Trainer::new(&model, config)?;
    trainer.resume(&model, checkpoint, &data.train)?;
    for _ in trainer.epochs().take_while(|epoch| *epoch < stop) {
        let score = trainer.epoch(&data.train, |images, labels| {
            let (logits, _) = model.forward(images, true, false)?;
            Ok((logits.cross_entropy_for_logits(labels), logits))
        })?;
        trainer.record(score, &evaluate(&model, &data.test)?);
        trainer.save(&model, checkpoint)?;
    }
    Ok((model, trainer.history))
}

fn weights(model: &impl Model) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = model.variables().variables().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Learning rates and scores of all epochs, without their duration.
fn scores(history: &History) -> Vec<[f64; 6]> {
    let scores = |e: &Epoch| [e.epoch as f64, e.lr, e.train_loss, e.train_accuracy, e.test_loss, e.test_accuracy];
    history.epochs.iter().map(scores).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_network_learns_and_its_history_marks_the_data() -> Result<()> {
    let _lock = random_generator();
    let config = small();
    let data = data(&config)?;
    seed_everything(config.seed);
    let model = Cnn::new(&config, Device::Cpu)?;
    let mut trainer = Trainer::new(&model, &config)?;
    for _ in trainer.epochs() {
        let score = trainer.epoch(&data.train, |images, labels| {
            let logits = model.forward(images, true)?;
            Ok((logits.cross_entropy_for_logits(labels), logits))
        })?;
        trainer.record(score, &evaluate(&model, &data.test)?);
    }
    let [first, last] = &trainer.history.epochs[..] else { panic!("two epochs were asked for") };
    assert!(last.train_loss < first.train_loss);
    assert!(last.test_accuracy > 0.7, "{last}");
    let title = trainer.history.origin.title("Loss");
    assert_eq!(title, "Loss [synthetic stand-in data, 1000 training images, 200 test images]");
    Ok(())
}

#[test]
fn an_interrupted_epoch_goes_on_with_the_batches_it_lacks() -> Result<()> {
    let _lock = random_generator();
    let config = small();
    let data = data(&config)?;
    seed_everything(config.seed);
    let model = VisionTransformer::new(&config, Device::Cpu)?;
    let mut trainer = Trainer::new(&model, &config)?;
    let epoch = |trainer: &mut Trainer| {
        let mut batches: Vec<Vec<i64>> = Vec::new();
        let score = trainer.epoch(&data.train, |images, labels| {
            batches.push(Vec::try_from(labels).unwrap());
            let (logits, _) = model.forward(images, true, false)?;
            Ok((logits.cross_entropy_for_logits(labels), logits))
        })?;
        trainer.record(score, &evaluate(&model, &data.test)?);
        Ok::<_, Error>(batches)
    };
    let all = epoch(&mut trainer)?;
    assert_eq!(all.len(), 31);
    // Pretend that the epoch was interrupted after 20 batches with these means.
    let interrupted = trainer.history.epochs.last_mut().expect("one was trained");
    interrupted.stopped_after = Some(20);
    (interrupted.train_loss, interrupted.train_accuracy, interrupted.seconds) = (100.0, 0.0, 1000.0);
    assert_eq!(trainer.epochs().collect::<Vec<_>>(), [0, 1]);

    assert_eq!(epoch(&mut trainer)?, all[20..]);
    let [done] = &trainer.history.epochs[..] else { panic!("the interrupted epoch is completed, not repeated") };
    assert_eq!((done.epoch, done.stopped_after), (1, None));
    // 20 batches of 100 nats and 11 of at most 5.
    assert!((64.5..67.0).contains(&done.train_loss), "{done}");
    assert!(done.train_accuracy < 11.0 / 31.0 && done.seconds > 1000.0);
    assert_eq!(trainer.epochs().collect::<Vec<_>>(), [1]);
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_weights_bit_for_bit() -> Result<()> {
    let runs = [42, 42, 43].map(|seed| train(&Config { seed, ..small() }, &folder().path().join("c.safetensors"), 2));
    let [a, b, c] = runs;
    let ((a, history_a), (b, history_b), (c, _)) = (a?, b?, c?);
    assert_eq!(weights(&a), weights(&b));
    assert_eq!(scores(&history_a), scores(&history_b));
    assert_ne!(weights(&a), weights(&c));
    Ok(())
}

#[test]
fn a_resumed_training_is_as_if_never_stopped() -> Result<()> {
    let (there, here) = (folder(), folder());
    let (whole, history) = train(&small(), &there.path().join("c.safetensors"), 2)?;
    let checkpoint = here.path().join("c.safetensors");
    train(&small(), &checkpoint, 1)?;
    let (resumed, resumed_history) = train(&small(), &checkpoint, 2)?;
    assert_eq!(weights(&whole), weights(&resumed));
    assert_eq!(scores(&history), scores(&resumed_history));
    Ok(())
}

fn message<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() -> Result<()> {
    let folder = folder();
    let checkpoint = folder.path().join("c.safetensors");
    train(&small(), &checkpoint, 1)?;
    let bytes = std::fs::read(&checkpoint).expect("just written");

    let other = message(train(&Config { lr: 1e-3, ..small() }, &checkpoint, 2));
    assert!(
        other.contains("c.safetensors: is a checkpoint of another configuration (LR: 0.001 here, 0.002 there)"),
        "{other}"
    );
    let fewer = message(train(&Config { test_images: Some(100), ..small() }, &checkpoint, 2));
    assert!(fewer.contains("TEST_IMAGES: 100 here, 200 there"), "{fewer}");
    assert_eq!(std::fs::read(&checkpoint).expect("still there"), bytes, "refusing must not touch the file");

    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&checkpoint, &bytes[..length]).expect("a truncated copy");
        let broken = message(train(&small(), &checkpoint, 2));
        assert!(broken.contains("c.safetensors: "), "{broken}");
    }
    std::fs::write(&checkpoint, b"not a checkpoint at all").expect("a wrong file");
    assert!(message(train(&small(), &checkpoint, 2)).contains("c.safetensors: "));
    Ok(())
}

#[test]
fn an_unwritable_output_is_said_and_leaves_nothing() -> Result<()> {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("a file");
    let error = message(train(&small(), &file.join("c.safetensors"), 1));
    assert!(error.contains("can't be written") && error.contains("choose a folder"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "in the way");
    Ok(())
}

#[test]
fn impossible_trainings_are_refused() -> Result<()> {
    let nowhere = folder();
    let try_with = |config: Config| message(train(&config, &nowhere.path().join("c.safetensors"), 1));
    assert_eq!(
        try_with(Config { batch_size: 1_001, ..small() }),
        "BATCH_SIZE 1001 is more than the 1000 training images"
    );
    assert_eq!(try_with(Config { warmup_epochs: 3, ..small() }), "WARMUP_EPOCHS 3 is more than EPOCHS 2");
    assert_eq!(
        try_with(Config { train_images: Some(1_000_000), ..small() }),
        "1000000 images asked for, the training set has 1 to 4000"
    );
    let diverged = try_with(Config { lr: 1e30, ..small() });
    assert!(diverged.contains("the training diverged; lower LR"), "{diverged}");
    Ok(())
}

/// `torch.nn.init.xavier_uniform_` draws from ±√(6 / (fan_in + fan_out)). Biases, norms, tokens and positions keep their
/// usual initialisation.
#[test]
fn xavier_is_pytorchs_on_every_linear_map_and_nowhere_else() -> Result<()> {
    let _lock = random_generator();
    let config = Config { initialisation: Initialisation::Xavier, ..Config::default() };
    let draw = || -> Result<Vec<(String, Tensor)>> {
        seed_everything(5);
        Ok(weights(&MyDeiT::new(&config, Device::Cpu)?))
    };
    let all = draw()?;
    assert_eq!(all, draw()?, "the same seed gives the same weights");
    let mut linear = 0;
    for (name, tensor) in &all {
        let value = |t: Tensor| t.double_value(&[]);
        let (deviation, largest) = (value(tensor.std(false)), value(tensor.abs().max()));
        let fans = match name.rsplit('.').nth(1) {
            Some("conv1") if name.ends_with("weight") => Some((16, 64)),
            Some("fc1") if name.contains("encoder") => Some((64, 128)),
            Some("fc2") if name.contains("encoder") => Some((128, 64)),
            Some("fc2" | "fc_dist") => Some((64, 10)),
            Some("fc1" | "queries" | "keys" | "values" | "out_projection") => Some((64, 64)),
            _ => None,
        };
        match fans.filter(|_| name.ends_with("weight")) {
            Some((inputs, outputs)) => {
                linear += 1;
                let bound = (6.0 / f64::from(inputs + outputs)).sqrt();
                assert!(largest <= bound && largest > 0.95 * bound, "{name}: {largest}");
                let uniform = bound / 3f64.sqrt();
                assert!((deviation / uniform - 1.0).abs() < 0.1, "{name}: {deviation}");
            }
            None if name.contains("token") || name.contains("pos_") => {
                assert!((deviation - 0.02).abs() < 0.01, "{name}: {deviation}");
            }
            None => assert!(deviation == 0.0, "{name}: {deviation}"),
        }
    }
    assert_eq!(linear, 1 + 6 * 6 + 3);
    Ok(())
}

/// Compares with PyTorch's closed forms: `LinearLR` from 1/n of LR to LR over n steps, then `CosineAnnealingLR`,
/// MIN_LR + (LR − MIN_LR) (1 + cos(π t / T)) / 2 at step t of T. The trainer's steps have the same rates.
#[test]
fn the_learning_rate_of_each_step() -> Result<()> {
    let config = Config { epochs: 20, warmup_epochs: 2, lr: 2e-3, lr_per_step: true, ..Config::default() };
    let steps = 468;
    let rate = |step| step_learning_rate(&config, step, steps);
    for step in [0, 1, 467, 468, 935] {
        let expected = 2e-3 * (step + 1) as f64 / 936.0;
        assert!((rate(step) - expected).abs() < 1e-15, "step {step}");
    }
    for t in [0, 1, 4_212, 8_423] {
        let cosine = (std::f64::consts::PI * f64::from(t) / 8_424.0).cos();
        let expected = 1e-5 + (2e-3 - 1e-5) * (1.0 + cosine) / 2.0;
        assert!((rate(936 + t as usize) - expected).abs() < 1e-15, "t {t}");
    }
    for epoch in 0..20 {
        let first = step_learning_rate(&config, epoch, 1);
        assert_eq!(first, learning_rate(&config, epoch), "one step an epoch");
    }

    let small = Config { lr_per_step: true, ..small() };
    let (_, history) = train(&small, &folder().path().join("c.safetensors"), 2)?;
    let last: Vec<f64> = history.epochs.iter().map(|e| e.lr).collect();
    let batches = 1_000 / 32;
    assert_eq!(last, [1, 2].map(|n| step_learning_rate(&small, n * batches - 1, batches)));
    Ok(())
}

/// Validation replaces the test set by training images that are held out of the training.
#[test]
fn validation_images_come_from_the_end_of_the_training_set() -> Result<()> {
    let whole = data(&small())?;
    let config = Config { validation_images: Some(300), ..small() };
    let split = data(&config)?;
    assert_eq!((split.train.len(), split.test.len()), (700, 300));
    let both = Tensor::cat(&[&split.train.images, &split.test.images], 0);
    assert_eq!(both, whole.train.images);
    let labels = Tensor::cat(&[&split.train.labels, &split.test.labels], 0);
    assert_eq!(labels, whole.train.labels);
    assert_eq!(labels.kind(), Kind::Int64);
    let title = split.test.origin.title("Loss");
    assert!(title.contains("the last 300 training images held out instead of the test set"), "{title}");
    let all = Config { validation_images: Some(1_000), ..small() };
    assert_eq!(message(data(&all)), "1000 images are to be held out of the training set; it has 1000");
    Ok(())
}

/// The homework's configuration is written with the homework's constants alone; others appear when they are set.
#[test]
fn further_constants_stand_in_json_only_when_they_are_used() -> Result<()> {
    let plain = Config::default().to_json();
    for name in ["INITIALISATION", "LR_PER_STEP", "VALIDATION_IMAGES", "AUGMENTATION"] {
        assert!(!plain.contains(name), "{plain}");
    }
    let text =
        r#"{"INITIALISATION": "xavier", "LR_PER_STEP": true, "VALIDATION_IMAGES": 5000, "AUGMENTATION": "flip"}"#;
    let config = Config::from_json(text)?;
    assert_eq!(config.initialisation, Initialisation::Xavier);
    assert_eq!(Config::from_json(&config.to_json())?, config);
    assert_eq!(config.augmentation, Augmentation::Flip);
    assert_eq!(config.differences(&Config::default()).len(), 4);
    Ok(())
}
