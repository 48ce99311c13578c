//! Training end to end on synthetic data: it learns, repeats bit for bit, resumes, and explains its errors.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};

use tch::{Device, Kind, Tensor};
use vitlab::config::{Augmentation, Initialisation, TrainSelection};
use vitlab::data::{CLASSES, FashionMnist, Origin, seed_everything, source::Source};
use vitlab::metrics::evaluate;
use vitlab::model::{Cnn, Model, MyDeiT, VisionTransformer};
use vitlab::train::{Begin, Earlier, Epoch, History, Trainer, TrainingFolder, learning_rate, step_learning_rate};
use vitlab::{Config, Error, Learner, Result, checkpoint};

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
fn a_balanced_part_is_drawn_by_the_seed() -> Result<()> {
    let part = |count, seed| {
        let config = Config { train_images: Some(count), train_selection: TrainSelection::Balanced, seed, ..small() };
        data(&config)
    };
    let (whole, first, again, other) =
        (data(&Config { train_images: None, ..small() })?, part(60, 1)?, part(60, 1)?, part(60, 2)?);
    let labels = |data: &FashionMnist| Vec::<i64>::try_from(&data.train.labels).expect("labels");
    (0..10).for_each(|class| assert_eq!(labels(&first).iter().filter(|label| **label == class).count(), 6));
    assert_eq!((&first.train.images, labels(&first)), (&again.train.images, labels(&again)));
    assert_ne!(first.train.images, other.train.images);
    // Each drawn image is one of the data set with its label, no image is drawn twice, and they keep their order.
    let mut places = Vec::new();
    for index in 0..60 {
        let differs = (&whole.train.images - first.train.images.get(index)).abs().flatten(1, 2).any_dim(1, false);
        let place = differs.logical_not().nonzero().int64_value(&[0, 0]);
        assert_eq!(whole.train.labels.int64_value(&[place]), first.train.labels.int64_value(&[index]));
        places.push(place);
    }
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    assert!(first.train.origin.title("").ends_with("60 training images, balanced, 200 test images]"));
    let message = |count| part(count, 1).unwrap_err().to_string();
    assert!(message(65).contains("65 images asked for, the same number of each of 10 classes"));
    assert!(
        message(1_000_000).contains("100000 images of each class asked for, the training set has"),
        "{}",
        message(1_000_000)
    );
    for config in [
        Config { train_images: Some(65), ..small() },
        Config { train_images: None, ..small() },
        Config { validation_images: Some(10), ..small() },
    ] {
        let config = Config { train_selection: TrainSelection::Balanced, ..config };
        let message = config.check().unwrap_err().to_string();
        assert_eq!(
            message,
            "TRAIN_SELECTION is balanced; give TRAIN_IMAGES as a multiple of 10 and no VALIDATION_IMAGES"
        );
    }
    Ok(())
}

#[test]
fn an_epoch_of_more_steps_goes_through_the_images_again() -> Result<()> {
    let _lock = random_generator();
    let config = Config { epochs: 1, steps_per_epoch: Some(7), train_images: Some(96), ..small() };
    let data = data(&config)?;
    let model = VisionTransformer::new(&config, Device::Cpu)?;
    let mut trainer = Trainer::new(&model, &config)?;
    let mut seen: Vec<Vec<i64>> = Vec::new();
    trainer.epoch(&data.train, |images, labels| {
        seen.push(Vec::try_from(labels).expect("labels"));
        let (logits, _) = model.forward(images, true, false)?;
        Ok((logits.cross_entropy_for_logits(labels), logits))
    })?;
    assert_eq!(seen.len(), 7);
    let sorted = |labels: Vec<i64>| {
        let mut labels = labels;
        labels.sort_unstable();
        labels
    };
    let all = sorted(Vec::try_from(&data.train.labels).expect("labels"));
    let (first, second) = (seen[..3].concat(), seen[3..6].concat());
    assert_ne!(first, second);
    assert_eq!([sorted(first), sorted(second)], [all.clone(), all]);
    Ok(())
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

/// Ten images a batch, two batches an epoch.
fn tiny() -> Config {
    Config { batch_size: 10, train_images: Some(20), test_images: Some(20), n_layers: 1, ..small() }
}

/// A training of `config` in `folder` for `epochs` epochs, which is left unfinished or finished.
fn run_in(folder: &Path, config: &Config, earlier: Earlier, epochs: usize, finish: bool) -> Result<(Begin, Trainer)> {
    let _lock = random_generator();
    let data = data(config)?;
    seed_everything(config.seed);
    let model = VisionTransformer::new(config, Device::Cpu)?;
    let mut trainer = Trainer::new(&model, config)?;
    let folder = TrainingFolder::open(folder, "ViT_model")?;
    let begin = folder.begin(&mut trainer, &model, &data.train, earlier)?;
    if begin == Begin::Finished {
        return Ok((begin, trainer));
    }
    for _ in trainer.epochs().take(epochs) {
        let score = trainer.epoch(&data.train, |images, labels| {
            let (logits, _) = model.forward(images, true, false)?;
            Ok((logits.cross_entropy_for_logits(labels), logits))
        })?;
        trainer.record(score, &evaluate(&model, &data.test)?);
        folder.save(&trainer, &model)?;
    }
    if finish {
        folder.finish(&trainer, &model)?;
    }
    Ok((begin, trainer))
}

/// The files in a folder by name, with their contents.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_finished_training_is_neither_repeated_nor_replaced() -> Result<()> {
    let temporary = folder();
    let folder = temporary.path().join("out");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("notes.txt"), "mine").expect("a file of the user");
    run_in(&folder, &tiny(), Earlier::Refuse, 2, true)?;
    assert_eq!(names(&folder), ["ViT_model.json", "ViT_model.pt", "ViT_model.safetensors", "notes.txt"]);
    let before = files(&folder);

    let (again, trainer) = run_in(&folder, &tiny(), Earlier::Resume, 2, true)?;
    assert_eq!((again, trainer.history.epochs.len()), (Begin::Finished, 2));
    let refused = message(run_in(&folder, &tiny(), Earlier::Refuse, 2, true));
    assert!(
        refused.contains("ViT_model.pt: is there from an earlier training") && refused.contains("--force"),
        "{refused}"
    );
    let longer = message(run_in(&folder, &Config { epochs: 3, ..tiny() }, Earlier::Resume, 2, true));
    assert!(
        longer.contains("ViT_model.json: is the history of another configuration (EPOCHS: 3 here, 2 there)"),
        "{longer}"
    );
    assert_eq!(files(&folder), before);

    let (begin, _) = run_in(&folder, &Config { seed: 1, ..tiny() }, Earlier::Replace, 2, true)?;
    assert_eq!((begin, names(&folder).len()), (Begin::New, 4));
    assert_ne!(files(&folder), before);
    // Weights without a history belong to somebody.
    fs::remove_file(folder.join("ViT_model.json")).expect("the history");
    let refused = message(run_in(&folder, &tiny(), Earlier::Resume, 2, true));
    assert!(refused.contains("has neither a checkpoint nor a history beside it"), "{refused}");
    Ok(())
}

#[test]
fn an_unfinished_training_is_resumed_or_replaced_on_request() -> Result<()> {
    let folder = folder();
    let folder = folder.path();
    // Interrupted in its first epoch: nothing is lost.
    run_in(folder, &tiny(), Earlier::Refuse, 0, false)?;
    assert_eq!(names(folder), ["ViT_model_checkpoint.safetensors"]);
    run_in(folder, &tiny(), Earlier::Refuse, 1, false)?;
    let refused = message(run_in(folder, &tiny(), Earlier::Refuse, 1, false));
    assert!(refused.contains("add --resume to continue it, or --force to start anew"), "{refused}");
    let (begin, resumed) = run_in(folder, &tiny(), Earlier::Resume, 2, false)?;
    assert_eq!((begin, resumed.history.epochs.len()), (Begin::Resumed(1), 2));
    // All epochs were trained, the results weren't written.
    let (begin, last) = run_in(folder, &tiny(), Earlier::Resume, 2, true)?;
    assert_eq!((begin, scores(&last.history)), (Begin::Resumed(2), scores(&resumed.history)));
    let (begin, whole) = run_in(&folder.join("whole"), &tiny(), Earlier::Refuse, 2, false)?;
    assert_eq!((begin, scores(&whole.history)), (Begin::New, scores(&resumed.history)));
    let (begin, _) = run_in(&folder.join("whole"), &tiny(), Earlier::Replace, 0, false)?;
    assert_eq!(begin, Begin::New);
    Ok(())
}

#[test]
fn one_training_at_a_time_in_a_folder() -> Result<()> {
    let folder = folder();
    let first = TrainingFolder::open(folder.path(), "ViT_model")?;
    assert!(first.is_locked());
    let second = message(TrainingFolder::open(folder.path(), "ViT_model"));
    assert!(second.contains("ViT_model.lock: is locked by another training (process "), "{second}");
    // Another model's files have other names.
    TrainingFolder::open(folder.path(), "teacher_model")?;
    drop(first);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    // A lock file that a killed process left is no obstacle.
    fs::write(folder.path().join("ViT_model.lock"), "1").expect("a file");
    TrainingFolder::open(folder.path(), "ViT_model")?;
    assert_eq!(names(folder.path()), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_noticed_before_the_first_step() -> Result<()> {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").expect("a file");
    let said = message(TrainingFolder::open(&file, "ViT_model"));
    assert!(said.contains("file: is a file; name a folder"), "{said}");
    let said = message(TrainingFolder::open(file.join("below"), "ViT_model"));
    assert!(said.contains("can't be created") && said.contains("choose a folder that is writable"), "{said}");
    if cfg!(target_os = "linux") {
        let said = message(TrainingFolder::open("/proc/vitlab", "ViT_model"));
        assert!(said.contains("can't be created"), "{said}");
    }
    // The checkpoint can't be written; no step was trained.
    let out = folder.path().join("out");
    fs::create_dir_all(out.join("ViT_model_checkpoint.safetensors")).expect("a folder in the way");
    let said = message(run_in(&out, &tiny(), Earlier::Replace, 0, false));
    assert!(said.contains("ViT_model_checkpoint.safetensors: is a folder"), "{said}");
    Ok(())
}

/// The data are compared when a training goes on, by the name that their content has.
#[test]
fn a_training_goes_on_with_its_own_data_only() -> Result<()> {
    let _lock = random_generator();
    let (out, first, second) = (folder(), folder(), folder());
    for (data, seed) in [(&first, 1), (&second, 2)] {
        vitlab_dataset::synthetic::write_folder(data.path(), 20, 20, seed)?;
        fs::remove_file(data.path().join("SYNTHETIC")).expect("the mark");
    }
    let read =
        |folder: &tempfile::TempDir| FashionMnist::read(&Source::Folder(folder.path().into()), &tiny(), Device::Cpu);
    let (ours, theirs) = (read(&first)?, read(&second)?);
    let model = VisionTransformer::new(&tiny(), Device::Cpu)?;
    let open = || -> Result<_> { Ok((TrainingFolder::open(out.path(), "ViT_model")?, Trainer::new(&model, &tiny())?)) };
    let (folder, mut trainer) = open()?;
    folder.begin(&mut trainer, &model, &ours.train, Earlier::Refuse)?;
    let other = |folder: &TrainingFolder, trainer: &mut Trainer| {
        let said = message(folder.begin(trainer, &model, &theirs.train, Earlier::Resume));
        let [ours, theirs] = [&ours, &theirs].map(|data| &data.train.origin.dataset);
        assert_ne!(ours, theirs);
        let expected =
            format!("a training on other data ({ours}, 20 training images, 20 test images; this one is on {theirs}");
        assert!(said.contains(&expected), "{expected} is not in {said}");
    };
    other(&folder, &mut trainer);
    folder.finish(&trainer, &model)?;
    let (folder, mut trainer) = open()?;
    other(&folder, &mut trainer);
    Ok(())
}

#[test]
fn the_origin_names_the_data_set() -> Result<()> {
    let synthetic = data(&tiny())?.train.origin;
    assert!(synthetic.synthetic && synthetic.dataset == "synthetic stand-in");
    assert_eq!(synthetic.classes(), CLASSES);
    // Histories of earlier versions are FashionMNIST's.
    let earlier: Origin = serde_json::from_str(r#"{"synthetic": false, "subset": null}"#).expect("an origin");
    assert_eq!(earlier, Origin::default());
    assert_eq!(History::read("../models/ViT_model.json")?.origin.to_string(), "FashionMNIST");
    let mnist = Origin { dataset: "MNIST".into(), subset: Some(100), ..Origin::default() };
    assert_eq!(mnist.title("Loss"), "Loss [MNIST, 100 training images]");
    assert_eq!((mnist.to_string(), mnist.classes()[7]), ("MNIST, 100 training images".to_string(), "7"));
    Ok(())
}

/// Every safetensors file of a training tells its configuration, and its checkpoint is a model that can be read.
#[test]
fn the_files_of_a_training_describe_themselves() -> Result<()> {
    let folder = folder();
    let out = folder.path();
    let config = Config { embed_dim: 32, n_attention_heads: 2, ..tiny() };
    run_in(out, &config, Earlier::Refuse, 1, false)?;
    let unfinished = out.join("ViT_model_checkpoint.safetensors");
    let (_, of_checkpoint) = checkpoint::read_safetensors(&unfinished)?;
    let lock = random_generator();
    let learner = Learner::read(&unfinished, Device::Cpu)?;
    drop(lock);
    run_in(out, &config, Earlier::Resume, 0, true)?;
    let (weights, of_weights) = checkpoint::read_safetensors(out.join("ViT_model.safetensors"))?;
    for metadata in [&of_checkpoint, &of_weights] {
        assert_eq!(Config::from_json(&metadata["config"])?, config);
        assert!(metadata["origin"].contains("synthetic stand-in"), "{metadata:?}");
    }
    assert_eq!(of_weights["format"], "pt");
    for (name, tensor) in checkpoint::state_dict(learner.variables()).0 {
        assert_eq!(weights.get(&name), Some(&tensor), "{name}");
    }
    Ok(())
}

#[test]
fn impossible_configurations() {
    let said = |json: &str| message(Config::from_json(json));
    for (json, expected) in [
        (r#"{"EPOCHS": 0}"#, "EPOCHS is 0; it must be at least 1"),
        (r#"{"EPOCHS": 9000000000000000000}"#, "EPOCHS is 9000000000000000000; it must be at most 1000000"),
        (r#"{"EMBED_DIM": 1048576}"#, "EMBED_DIM is 1048576; it must be at most 65536"),
        (r#"{"N_LAYERS": 1000000}"#, "N_LAYERS is 1000000; it must be at most 1024"),
        (r#"{"EMBED_DIM": 65536, "N_LAYERS": 1024, "FORWARD_MUL": 1024}"#, "vitlab trains at most 1000000000"),
        (r#"{"EMBED_DIM": 9223372036854775807}"#, "EMBED_DIM is 9223372036854775807; it must be at most 65536"),
        (r#"{"BATCH_SIZE": 100000000}"#, "BATCH_SIZE is 100000000; it must be at most 1000000"),
        (r#"{"EPOCHS": -3}"#, "EPOCHS can't be -3: invalid value: integer `-3`, expected a whole number of at least 0"),
        (r#"{"EPOCHS": "many"}"#, "EPOCHS can't be \"many\""),
        (
            r#"{"LR": 1e-3, "BATCH_SIZE": 1.5}"#,
            "BATCH_SIZE can't be 1.5: invalid type: floating point `1.5`, expected a whole",
        ),
        (r#"{"EPOCHS": 1, "EPOCHS": 2}"#, "duplicate field `EPOCHS`"),
        (r#"{"EPOCH": 1}"#, "unknown field `EPOCH`, expected one of `EPOCHS`"),
        ("[1]", "the configuration can't be read"),
        ("", "the configuration can't be read"),
        ("{", "the configuration can't be read"),
    ] {
        let said = said(json);
        assert!(said.contains(expected), "{json}: {said}");
        for word in ["usize", "i64", "f64", "struct"] {
            assert!(!said.contains(word), "{json}: {said}");
        }
    }
}

#[test]
fn a_history_serves_as_a_configuration() -> Result<()> {
    assert_eq!(Config::read("../models/ViT_model.json")?, History::read("../models/ViT_model.json")?.config);
    let folder = folder();
    let path = folder.path().join("history.json");
    let said = |text: &str| {
        fs::write(&path, text).expect("a file");
        message(Config::read(&path))
    };
    let wrong = said(r#"{"config": {"EPOCHS": -1}, "origin": {"synthetic": false}, "epochs": []}"#);
    assert!(wrong.contains("history.json: EPOCHS can't be -1"), "{wrong}");
    let impossible = said(r#"{"config": {"EPOCHS": 0}, "epochs": []}"#);
    assert!(impossible.contains("history.json: EPOCHS is 0"), "{impossible}");
    let history = r#"{"config": {"EPOCHS": -1}, "origin": {"synthetic": false}, "epochs": []}"#;
    fs::write(&path, history).expect("a file");
    let wrong = message(History::read(&path));
    assert!(wrong.contains("is not a training's history") && !wrong.contains("usize"), "{wrong}");
    Ok(())
}

/// The command in `folder` on the generated stand-in.
fn vitlab(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitlab"));
    command.args(line.split_whitespace()).current_dir(folder).env("VITLAB_DATA", "synthetic");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn arguments_of_the_command() -> Result<()> {
    let temporary = folder();
    let folder = temporary.path();
    fs::write(folder.join("tiny.json"), tiny().to_json()).expect("a configuration");
    History { config: tiny(), ..History::default() }.write(folder.join("history.json"))?;
    fs::write(folder.join("absurd.json"), r#"{"EMBED_DIM": 1048576}"#).expect("a configuration");
    for (line, expected) in [
        ("--epochs -3", "give a whole number of epochs"),
        ("--epochs 1000000000000", "EPOCHS is 1000000000000; it must be at most 1000000"),
        ("--threads 0", "give a number from 1 to"),
        ("--threads 65535", "give a number from 1 to"),
        ("--threads -1", "give a number from 1 to"),
        ("--seed abc", "invalid digit"),
        ("--config absurd.json", "absurd.json: EMBED_DIM is 1048576; it must be at most 65536"),
        ("--out tiny.json", "tiny.json: is a file; name a folder"),
        ("--resume --force", "cannot be used with"),
        ("--data tiny.json", "tiny.json: is neither a folder nor one of the four files"),
    ] {
        let config = if line.contains("--config") { "" } else { "--config tiny.json" };
        let output = vitlab(folder, &format!("train --model vit {config} {line}")).output().expect("it starts");
        let said = said(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{line}: {said}");
        assert!(said.contains(expected) && !said.contains("usize") && !said.contains("panicked"), "{line}: {said}");
        assert!(!folder.join("outputs").exists(), "{line} leaves a folder");
    }
    let line = "train --model vit --config history.json --seed -5 --threads 1 --out out";
    let output = vitlab(folder, line).output().expect("it starts");
    assert!(output.status.success() && said(&output).contains("data: synthetic stand-in"), "{}", said(&output));
    assert_eq!(History::read(folder.join("out/ViT_model.json"))?.config.seed, -5);
    let output = vitlab(folder, &format!("{line} --resume")).output().expect("it starts");
    assert!(output.status.success() && said(&output).contains("finished: all 2 epochs"), "{}", said(&output));
    assert!(said(&vitlab(folder, line).output().expect("it starts")).contains("--force"));
    assert!(vitlab(folder, &format!("{line} --force")).output().expect("it starts").status.success());
    Ok(())
}

/// The lock ends with its process, and a checkpoint of a killed training can be evaluated.
#[test]
fn a_killed_training_leaves_no_lock() {
    let temporary = folder();
    let folder = temporary.path();
    let config = Config { epochs: 1_000, train_images: Some(500), ..tiny() };
    fs::write(folder.join("long.json"), config.to_json()).expect("a configuration");
    let line = "train --model vit --config long.json --threads 1 --out out";
    let mut child = vitlab(folder, line).stdout(Stdio::piped()).spawn().expect("it starts");
    // Held open: the command ends when nobody reads its output any more.
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(std::io::Result::ok);
    assert!(lines.any(|line| line.starts_with("epoch  2")));
    let second = vitlab(folder, &format!("{line} --resume")).output().expect("it starts");
    assert!(
        said(&second).contains(&format!("is locked by another training (process {})", child.id())),
        "{}",
        said(&second)
    );
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    let unlocked = vitlab(folder, line).output().expect("it starts");
    assert!(said(&unlocked).contains("is the checkpoint of an unfinished training"), "{}", said(&unlocked));
    let evaluated =
        vitlab(folder, "evaluate --weights out/ViT_model_checkpoint.safetensors").output().expect("it starts");
    assert!(said(&evaluated).contains("model: accuracy"), "{}", said(&evaluated));
}
