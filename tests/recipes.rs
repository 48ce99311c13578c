//! Recipes of trainings: Muon, averaged weights, mixed images, target distributions, several teachers.

#[path = "common/mod.rs"]
mod common;
#[path = "common/tensors.rs"]
#[allow(dead_code)] // the comparison of gradients
mod tensors;

use common::reference;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tensors::{difference, generator_lock, read, write};
use vitlab::config::{Distillation, Mixing, Optimizer, TokenInitialisation};
use vitlab::data::{Dataset, Split, cutmix, erase, mixup, seed_everything};
use vitlab::distill::SoftTarget;
use vitlab::learner::{Learner, Loss, ModelKind, Recipe};
use vitlab::model::{Model, MyDeiT};
use vitlab::train::{AdamW, Trainer};
use vitlab::{Config, Result};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Parameters by name, with those that Muon takes and those that it leaves to AdamW.
const SHAPES: [(&str, &[i64]); 7] = [
    ("bias", &[64]),
    ("classifier", &[10, 64]),
    ("fc1", &[128, 64]),
    ("fc2", &[64, 128]),
    ("kernels", &[40, 4, 3, 3]),
    ("positions", &[1, 50, 64]),
    ("queries", &[64, 64]),
];

#[test]
fn muon_and_target_losses_equal_pytorch() -> Result<()> {
    let _lock = generator_lock();
    seed_everything(3);
    let store = VarStore::new(Device::Cpu);
    let start = vitlab::tch::nn::Init::Randn { mean: 0.0, stdev: 0.1 };
    let parameters = SHAPES.map(|(name, shape)| (name, store.root().var(name, shape, start)));
    let mut input: Vec<(String, Tensor)> = Vec::new();
    for (name, parameter) in &parameters {
        input.push((format!("start.{name}"), parameter.detach().copy()));
        (0..3).for_each(|step| input.push((format!("gradient.{step}.{name}"), Tensor::randn(parameter.size(), CPU))));
    }
    for head in 0..2 {
        input.push((format!("logits.{head}"), Tensor::randn([8, 10], CPU)));
        input.push((format!("targets.{head}"), Tensor::randn([8, 10], CPU).softmax(1, Kind::Float)));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let named: Vec<_> = input.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&folder.path().join("input.safetensors"), &named)?;
    reference("check_recipes.py", &[folder.path()]);
    let expected = read(&folder.path().join("expected.safetensors"))?;
    let given = |name: &str| input.iter().find(|(known, _)| known == name).expect("given").1.shallow_clone();

    let mut optimizer = AdamW::new(&store, 0.1).with_muon();
    for step in 0..3 {
        let gradients: Vec<Tensor> = SHAPES.map(|(name, _)| given(&format!("gradient.{step}.{name}"))).into();
        optimizer.step(&gradients, 2e-3)?;
    }
    let hidden = Vec::<bool>::try_from(&expected["hidden"])?;
    assert_eq!(hidden, [false, false, true, true, true, false, true]);
    for (name, parameter) in &parameters {
        let apart = (parameter.detach() - &expected[&format!("stepped.{name}")]).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{name}: {apart:e}");
    }

    let logits = [0, 1].map(|head| given(&format!("logits.{head}")).set_requires_grad(true));
    let settings = [(0.7, 1.0), (0.3, 3.0)];
    let losses = [0, 1].map(|head| {
        let probabilities = given(&format!("targets.{head}"));
        SoftTarget { probabilities, weight: settings[head].0, temperature: settings[head].1 }.loss(&logits[head])
    });
    let loss = &losses[0] + &losses[1];
    assert!(difference(&loss.detach(), &expected["loss"]) < 1e-5);
    let gradients = Tensor::run_backward(&[loss], &logits, false, false);
    for (head, gradient) in gradients.iter().enumerate() {
        assert!(difference(gradient, &expected[&format!("logits_gradient.{head}")]) < 1e-5);
    }
    Ok(())
}

/// Learners on the engine and in libtorch, with the same weights.
fn pairs(config: &Config) -> Result<Vec<(Learner, Learner)>> {
    [ModelKind::Vit, ModelKind::Cnn, ModelKind::Deit]
        .map(|kind| {
            seed_everything(1);
            let fused = Learner::create(kind, config, Device::Cpu)?;
            seed_everything(1);
            let plain = Learner::plain(Learner::create(kind, config, Device::Cpu)?);
            assert!(fused.is_fused() && !plain.is_fused());
            Ok((fused, plain))
        })
        .into_iter()
        .collect()
}

#[test]
fn the_engine_takes_target_distributions_as_libtorch_does() -> Result<()> {
    let _lock = generator_lock();
    let config = Config { dropout: 0.0, n_layers: 2, ..Config::default() };
    for (fused, plain) in pairs(&config)? {
        let images = Tensor::randn([12, 1, 28, 28], CPU);
        let labels = Tensor::from_slice(&[1i64; 12]);
        let targets: Vec<SoftTarget> = [(0.4, 1.0), (0.9, 2.0)][..fused.network().heads()]
            .iter()
            .map(|&(weight, temperature)| SoftTarget {
                probabilities: Tensor::randn([12, 10], CPU).softmax(1, Kind::Float),
                weight,
                temperature,
            })
            .collect();
        let [ours, expected] = [&fused, &plain].map(|learner| learner.step(&images, &labels, Loss::Targets(&targets)));
        let (ours, expected) = (ours?, expected?);
        assert!(difference(&ours.loss, &expected.loss.detach()) < 1e-5);
        let variables = plain.variables().trainable_variables();
        let gradients = Tensor::run_backward(&[&expected.loss], &variables, false, false);
        let flat = Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
        assert!(difference(ours.gradient.as_ref().expect("the engine's"), &flat) < 1e-5);
        let none = fused.step(&images, &labels, Loss::Targets(&[])).expect_err("a target for each head is needed");
        assert!(none.to_string().starts_with("give a target [12, 10] for each of the model's "), "{none}");
    }
    Ok(())
}

#[test]
fn mixed_and_erased_images_have_the_shares_of_their_targets() {
    let _lock = generator_lock();
    seed_everything(5);
    // Image i has the value i everywhere, so that the mean of a mixed image tells the shares.
    let images = Tensor::arange(6, CPU).view([6, 1, 1, 1]).expand([6, 1, 28, 28], false).contiguous();
    let targets = Tensor::eye(6, CPU);
    for mixing in [Mixing::Mixup, Mixing::CutMix] {
        let mut shares = Vec::new();
        for _ in 0..200 {
            let (mixed, mixed_targets) = mixing.apply(&images, &targets);
            let share = mixed_targets.double_value(&[0, 0]);
            let mean = mixed.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double);
            let expected = Tensor::arange(6, CPU) * share + (5f64 - Tensor::arange(6, CPU)) * (1.0 - share);
            assert!(difference(&mean, &expected) < 1e-5, "{mixing:?}");
            shares.push(share);
        }
        let mean = shares.iter().sum::<f64>() / 200.0;
        assert!((mean - 0.5).abs() < 0.08, "{mixing:?}: a share uniform between 0 and 1 has the mean ½, not {mean}");
    }
    assert_eq!(mixup(&images, &targets, 1.0).0, images);
    assert_eq!(cutmix(&images, &targets, 3, 4, 0).0, images);

    let ones = Tensor::ones([4000, 1, 28, 28], CPU);
    let erased = 1f64 - erase(&ones, 0.25).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double); // share of each image
    let touched = erased.gt(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!((touched - 0.25).abs() < 0.03, "{touched}");
    let area = erased.sum(Kind::Double).double_value(&[]) / (4000.0 * touched);
    // Uniform between 0.02 and 0.33; rectangles longer than the image lose a little.
    assert!((0.15..0.18).contains(&area), "{area}");
    assert_eq!(erase(&ones, 0.0), ones);
}

#[test]
fn tokens_start_as_the_configuration_says() -> Result<()> {
    let _lock = generator_lock();
    let tokens = |token_initialisation| -> Result<[Tensor; 2]> {
        seed_everything(9);
        let model = MyDeiT::new(&Config { token_initialisation, ..Config::default() }, Device::Cpu)?;
        Ok([&model.embedding.cls_token, &model.embedding.dist_token].map(|token| token.detach().flatten(0, -1)))
    };
    let cosine =
        |[a, b]: &[Tensor; 2]| a.dot(b).double_value(&[]) / (a.norm().double_value(&[]) * b.norm().double_value(&[]));
    let normal = tokens(TokenInitialisation::Normal)?;
    assert!(cosine(&normal).abs() > 1e-3);
    let orthogonal = tokens(TokenInitialisation::Orthogonal)?;
    assert!(cosine(&orthogonal).abs() < 1e-6);
    assert_eq!(orthogonal[0], normal[0]);
    assert!(tokens(TokenInitialisation::Zeros)?.iter().all(|token| token.abs().max().double_value(&[]) == 0.0));
    Ok(())
}

fn noise(images: i64) -> Dataset {
    let labels = Tensor::arange(images, (Kind::Int64, Device::Cpu)).remainder(10);
    let images = Tensor::randint(256, [images, 28, 28], (Kind::Uint8, Device::Cpu));
    Dataset { images, labels, split: Split::Train, origin: Default::default() }
}

#[test]
fn a_training_with_muon_and_averaged_weights_resumes_as_if_it_had_not_stopped() -> Result<()> {
    let _lock = generator_lock();
    let config = Config {
        epochs: 2,
        warmup_epochs: 1,
        batch_size: 16,
        n_layers: 1,
        optimizer: Optimizer::Muon,
        average_decay: 0.9,
        label_smoothing: 0.1,
        erasing: 0.25,
        mixing: Mixing::CutMix,
        ..Config::default()
    };
    seed_everything(2);
    let data = noise(64);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkpoint.safetensors");
    let weights = |learner: &Learner| -> Vec<Tensor> {
        learner.variables().trainable_variables().iter().map(|w| w.detach().copy()).collect()
    };
    let train = |resumed: bool| -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        seed_everything(config.seed);
        let learner = Learner::create(ModelKind::Vit, &config, Device::Cpu)?;
        let recipe = Recipe::new(&learner, &[], &config)?;
        let mut trainer = Trainer::new(&learner, &config)?;
        if resumed {
            assert_eq!(trainer.resume(&learner, &path, &data)?, 1);
        }
        for _ in trainer.epochs() {
            let score = trainer.epoch(&data, |images, labels| recipe.step(images, labels))?;
            let evaluation = trainer.averaged(|_| vitlab::metrics::evaluate(&learner, &data))?;
            trainer.record(score, &evaluation);
            if trainer.history.epochs.len() == 1 {
                trainer.save(&learner, &path)?;
            }
        }
        let averaged = trainer.averaged(|_| weights(&learner));
        Ok((weights(&learner), averaged))
    };
    let (last, averaged) = train(false)?;
    assert!(last.iter().zip(&averaged).any(|(a, b)| a != b), "the average isn't the last step");
    let (resumed, resumed_average) = train(true)?;
    assert_eq!(last, resumed);
    assert_eq!(averaged, resumed_average);
    Ok(())
}

#[test]
fn teachers_answer_together_and_recipes_that_do_not_fit_are_refused() -> Result<()> {
    let _lock = generator_lock();
    let config = Config { n_layers: 1, dropout: 0.0, ..Config::default() };
    let create = |kind| Learner::create(kind, &config, Device::Cpu);
    let teachers = [create(ModelKind::Cnn)?, create(ModelKind::Cnn)?];
    let (vit, deit) = (create(ModelKind::Vit)?, create(ModelKind::Deit)?);
    let images = Tensor::randn([4, 1, 28, 28], CPU);

    let flipped = Config { teacher_flip: true, distillation: Distillation::Match, ..config.clone() };
    let answer = Recipe::new(&vit, &teachers, &flipped)?.teacher(&images)?;
    let both = |x: &Tensor| -> Result<Tensor> { Ok((teachers[0].predict(x)? + teachers[1].predict(x)?) / 2.0) };
    let expected = (both(&images)? + both(&images.flip([3]))?) / 2.0;
    assert!(difference(&answer, &expected) < 1e-6);

    // A ViT whose teacher's answer is its own has the entropy of that answer as its loss, and no gradient.
    let own = [Learner::plain(create(ModelKind::Cnn)?)];
    let matched = Config { tau: 2.0, ..flipped.clone() };
    let batch = Recipe::new(&vit, &own, &matched)?.step(&images, &Tensor::from_slice(&[0i64; 4]))?;
    let answer = Recipe::new(&vit, &own, &matched)?.teacher(&images)?;
    let target = SoftTarget::teacher(&answer, 2.0, 1.0);
    assert!(difference(&batch.loss, &target.loss(&vit.predict(&images)?)) < 1e-5);

    let labels = |kind: Distillation| Config { distillation: kind, ..config.clone() };
    for (learner, teachers, config, expected) in [
        (&vit, &teachers[..], labels(Distillation::Hard), "a teacher (--teacher) goes with a deit only"),
        (&vit, &[], labels(Distillation::Soft), "DISTILLATION soft (--soft) goes with a deit only"),
        (&vit, &[], labels(Distillation::Match), "DISTILLATION match needs a teacher"),
        (&deit, &[], labels(Distillation::Hard), "a deit needs a teacher"),
        (&deit, &teachers[..], labels(Distillation::Labels), "leave --teacher out"),
        (&teachers[0], &[], Config { average_decay: 0.9, ..config.clone() }, "AVERAGE_DECAY goes with a ViT or DeiT"),
    ] {
        let error = Recipe::new(learner, teachers, &config).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn two_heads_without_a_teacher_learn_the_labels() -> Result<()> {
    let _lock = generator_lock();
    let config = Config { n_layers: 1, dropout: 0.0, distillation: Distillation::Labels, ..Config::default() };
    let deit = Learner::create(ModelKind::Deit, &config, Device::Cpu)?;
    let (images, labels) = (Tensor::randn([4, 1, 28, 28], CPU), Tensor::from_slice(&[0i64, 3, 3, 9]));
    let batch = Recipe::new(&deit, &[], &config)?.step(&images, &labels)?;
    let heads = deit.heads(&images)?;
    let expected = (heads[0].cross_entropy_for_logits(&labels) + heads[1].cross_entropy_for_logits(&labels)) / 2.0;
    assert!(difference(&batch.loss, &expected) < 1e-5);
    Ok(())
}
