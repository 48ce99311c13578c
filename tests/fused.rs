//! The models on the CPU engine against their own forward passes and libtorch's gradients.

#[path = "common/tensors.rs"]
#[allow(dead_code)] // the functions that read and write files
mod tensors;

use tch::nn::Module;
use tch::{Device, Kind, Tensor, no_grad};
use tensors::{assert_gradients, difference, generator_lock as turn, gradients, spread};
use vitlab::data::{FashionMnist, seed_everything, source};
use vitlab::distill::{HardDistillationLoss, KlReduction, SoftDistillationLoss};
use vitlab::explain::{DiscardPer, Fusion, Normalisation, Query, Rollout, rollout, row};
use vitlab::learner::fused::{CpuLevel, Fused, FusedCnn};
use vitlab::metrics::evaluate;
use vitlab::model::{Cnn, Encoder, Model, MyDeiT, ViTConfig, VisionTransformer};
use vitlab::train::{Batch, Trainer};
use vitlab::{Config, Result, checkpoint};

fn assert_near(ours: &Tensor, expected: &Tensor, what: &str) {
    let apart = difference(ours, expected);
    assert!(apart < 1e-5, "{what}: {apart:e} of the largest value apart");
}

/// Asserts that loss, logits and the gradient of each parameter equal those of the model.
fn assert_equal(batch: &Batch, model: &impl Model, loss: &Tensor, logits: &Tensor, what: &str) {
    assert_near(&batch.loss, &loss.detach(), what);
    assert_near(&batch.logits, &logits.detach(), what);
    let gradient = batch.gradient.as_ref().expect("a fused batch has a gradient");
    let names = model.variables().variables();
    let mut start = 0;
    let ours = model
        .variables()
        .trainable_variables()
        .iter()
        .map(|parameter| {
            let name = names
                .iter()
                .find(|(_, tensor)| tensor.data_ptr() == parameter.data_ptr())
                .map(|(name, _)| name.clone())
                .expect("every parameter has a name");
            let length = parameter.numel() as i64;
            let part = gradient.narrow(0, start, length);
            start += length;
            (name, part.view(parameter.size().as_slice()))
        })
        .collect();
    assert_eq!(start, gradient.size()[0], "{what}");
    let expected = gradients(loss, model.variables());
    assert_gradients(&ours, |name| expected[name].shallow_clone(), what);
}

/// Real test images and their labels.
fn images(n: i64) -> Result<(Tensor, Tensor)> {
    let config = Config { test_images: Some(n), ..Config::default() };
    let data = FashionMnist::load(&config, Device::Cpu)?;
    Ok((data.test.normalised(&Tensor::arange(n, (Kind::Int64, Device::Cpu))), data.test.labels))
}

fn config(dropout: f64) -> Config {
    Config { dropout, ..Config::default() }
}

#[test]
fn a_vits_step_equals_libtorchs() -> Result<()> {
    let _turn = turn();
    for (position_rows, n) in [(50, 37), (49, 8), (50, 1)] {
        let (images, labels) = images(n)?;
        seed_everything(7);
        let sizes = ViTConfig { position_rows, ..ViTConfig::from(&config(0.0)) };
        let model = VisionTransformer::with_sizes(sizes, Device::Cpu);
        spread(model.variables(), 0.1);
        let (logits, _) = model.forward(&images, true, false)?;
        let loss = logits.cross_entropy_for_logits(&labels);
        for level in CpuLevel::available() {
            let mut fused = Fused::vit(&model)?.with_level(level)?;
            let what = format!("{level:?}, {position_rows} position rows, {n} images");
            assert_equal(&fused.cross_entropy(&images, &labels)?, &model, &loss, &logits, &what);
            assert_near(&fused.predict(&images)?, &model.predict(&images)?, &what);
        }
    }
    Ok(())
}

/// Other sizes than the homework's: two layers, colour, larger patches, wider heads.
#[test]
fn other_sizes_work_and_impossible_ones_are_refused() -> Result<()> {
    let _turn = turn();
    seed_everything(8);
    let sizes = ViTConfig {
        n_layers: 2,
        n_channels: 3,
        patch_size: 7,
        embed_dim: 96,
        n_attention_heads: 3,
        forward_mul: 3,
        n_classes: 7,
        position_rows: 17,
        ..ViTConfig::from(&config(0.0))
    };
    let model = VisionTransformer::with_sizes(sizes.clone(), Device::Cpu);
    spread(model.variables(), 0.1);
    let images = Tensor::randn([9, 3, 28, 28], (Kind::Float, Device::Cpu));
    let labels = Tensor::randint(7, [9], (Kind::Int64, Device::Cpu));
    let (logits, _) = model.forward(&images, true, false)?;
    let loss = logits.cross_entropy_for_logits(&labels);
    for level in CpuLevel::available() {
        let mut fused = Fused::vit(&model)?.with_level(level)?;
        assert_equal(&fused.cross_entropy(&images, &labels)?, &model, &loss, &logits, &format!("{level:?}"));
        let message = fused.predict(&images.narrow(1, 0, 1)).unwrap_err().to_string();
        assert!(message.contains("this model needs [B, 3, 28, 28]"), "{message}");
    }
    let narrow = ViTConfig { embed_dim: 24, ..sizes };
    let narrow = VisionTransformer::with_sizes(narrow, Device::Cpu);
    let message = Fused::vit(&narrow).err().expect("heads of 8").to_string();
    assert!(message.contains("a multiple of 16 numbers") && message.contains("give 8"), "{message}");
    Ok(())
}

#[test]
fn a_students_step_equals_libtorchs() -> Result<()> {
    let _turn = turn();
    let (images, labels) = images(21)?;
    seed_everything(9);
    let model = MyDeiT::new(&config(0.0), Device::Cpu)?;
    spread(model.variables(), 0.1);
    let teacher = Tensor::randn([21, 10], (Kind::Float, Device::Cpu)) * 3.0;
    let (heads, _) = model.forward(&images, true, false)?;
    let logits = heads.average();
    for level in CpuLevel::available() {
        let mut fused = Fused::deit(&model)?.with_level(level)?;
        for label_smoothing in [0.0, 0.1] {
            let what = format!("{level:?}, smoothing {label_smoothing}");
            let hard = HardDistillationLoss { label_smoothing };
            let batch = fused.hard_distillation(&hard, &images, &teacher, &labels)?;
            assert_equal(&batch, &model, &hard.forward(&heads, &teacher, &labels), &logits, &what);
            for reduction in [KlReduction::BatchMean, KlReduction::ElementMean] {
                let soft = SoftDistillationLoss { label_smoothing, reduction, lambda: 0.4, ..Default::default() };
                let batch = fused.soft_distillation(&soft, &images, &teacher, &labels)?;
                assert_equal(&batch, &model, &soft.forward(&heads, &teacher, &labels), &logits, &what);
            }
        }
        assert_near(&fused.predict(&images)?, &model.predict(&images)?, "the mean of the heads");
        let dist = &fused.heads(&images)?[1];
        assert_near(dist, &heads.dist.detach(), "the distillation head");
    }
    let vit = VisionTransformer::new(&config(0.0), Device::Cpu)?;
    let refused = Fused::vit(&vit)?.hard_distillation(&Default::default(), &images, &teacher, &labels);
    assert!(refused.unwrap_err().to_string().contains("needs a MyDeiT"));
    Ok(())
}

/// `layers` returns the logits and the attention, L × [B, H, S, S], of the model's own forward pass.
fn assert_rollouts(
    mut levels: Vec<Fused>,
    layers: impl Fn(&Tensor) -> Result<(Tensor, Vec<Tensor>)>,
    n: i64,
) -> Result<()> {
    let (images, _) = images(n)?;
    let (logits, attention) = no_grad(|| layers(&images))?;
    let attention = Tensor::stack(&attention, 1);
    let mut options = vec![Rollout::default()];
    for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
        for (discard_ratio, discard_per) in
            [(0.5, DiscardPer::Matrix), (0.9, DiscardPer::Matrix), (0.9, DiscardPer::Row)]
        {
            options.push(Rollout { fusion, discard_ratio, discard_per, ..Rollout::default() });
        }
    }
    for layers in ["0..3", "2", "1,4,5"] {
        options.push(Rollout {
            discard_ratio: 0.5,
            layers: layers.parse()?,
            normalisation: Normalisation::Compat,
            ..Rollout::default()
        });
    }
    let prefix_tokens = attention.size()[4] - 49;
    for options in options {
        let matrix = rollout(&attention, &options)?;
        for query in [Query::Class, Query::Token(1), Query::Token(30)] {
            let expected = row(&matrix, query, prefix_tokens)?;
            for fused in &mut levels {
                let (rows, ours) = fused.rollout(&images, &options, query)?;
                assert_near(&ours, &logits, "logits");
                assert_eq!(rows.size(), expected.size());
                let apart = (rows - &expected).abs().amax([1i64].as_slice(), false);
                // Rounding decides which one of two nearly equal entries is discarded. Allows for one such image.
                let other = apart.gt(2e-6).to_kind(Kind::Double).sum(Kind::Double);
                assert!(other.double_value(&[]) <= 1.0, "{options:?}, {query}: {apart}");
            }
        }
    }
    Ok(())
}

#[test]
fn rollouts_equal_those_of_the_models_attention() -> Result<()> {
    let _turn = turn();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let path = format!("{models}/ViT_model.pt");
    let vit = VisionTransformer::new(&config(0.1), Device::Cpu)?;
    checkpoint::assign(vit.variables(), &checkpoint::read(&path)?, path.as_ref())?;
    let vits = CpuLevel::available().map(|level| Fused::vit(&vit)?.with_level(level)).collect::<Result<_>>()?;
    assert_rollouts(vits, |x| vit.forward_layers(x, false), 37)?;
    let path = format!("{models}/DeiT_model.pt");
    let deit = MyDeiT::new(&config(0.1), Device::Cpu)?;
    checkpoint::assign(deit.variables(), &checkpoint::read(&path)?, path.as_ref())?;
    let layers = |x: &Tensor| {
        let (heads, attention) = deit.forward_layers(x, false)?;
        Ok((heads.average(), attention))
    };
    assert_rollouts(vec![Fused::deit(&deit)?], layers, 5)
}

/// Discarding takes the first in reading order among equal entries.
#[test]
fn a_flat_attention_is_rolled_out_alike() -> Result<()> {
    let _turn = turn();
    let vit = VisionTransformer::new(&config(0.0), Device::Cpu)?;
    // With queries of zero, every token attends to all tokens equally.
    no_grad(|| {
        for (name, mut tensor) in vit.variables().variables() {
            if name.contains("queries") {
                let _ = tensor.zero_();
            }
        }
    });
    let (images, _) = images(3)?;
    for (discard_ratio, discard_per) in [(0.0, DiscardPer::Matrix), (0.37, DiscardPer::Matrix), (0.37, DiscardPer::Row)]
    {
        let options = Rollout { discard_ratio, discard_per, ..Rollout::default() };
        let (rows, _) = Fused::vit(&vit)?.rollout(&images, &options, Query::Token(7))?;
        // All entries are equal; whether they round to the same float as libtorch's 1/50 doesn't matter.
        let flat = Tensor::full([3, 6, 4, 50, 50], 0.02, (Kind::Float, Device::Cpu));
        let expected = row(&rollout(&flat, &options)?, Query::Token(7), 1)?;
        let apart = (rows - expected).abs().max();
        assert!(apart.double_value(&[]) < 1e-6, "{options:?}: {apart}");
    }
    Ok(())
}

#[test]
fn rollouts_of_broken_weights_and_wrong_options_are_refused() -> Result<()> {
    let _turn = turn();
    let vit = VisionTransformer::new(&config(0.0), Device::Cpu)?;
    let (images, _) = images(3)?;
    let mut fused = Fused::vit(&vit)?;
    let mut refused = |options: Rollout, query| {
        let refusal = fused.rollout(&images, &options, query).unwrap_err();
        refusal.to_string()
    };
    let layers = "4..9".parse()?;
    assert_eq!(
        refused(Rollout { layers, ..Rollout::default() }, Query::Class),
        "layers 4..9: this model has 6 layers, 0 to 5"
    );
    assert_eq!(
        refused(Rollout { discard_ratio: 1.0, ..Rollout::default() }, Query::Class),
        "discard ratio 1: give a share from 0 up to, but not including, 1"
    );
    assert_eq!(refused(Rollout::default(), Query::Token(50)), "query token 50: this model has 50 tokens, 0 to 49");
    no_grad(|| {
        let mut keys = vit.variables().variables()["encoder.3.attention.keys.weight"].shallow_clone();
        let _ = keys.fill_(f64::NAN);
    });
    let message = "attention: it has entries that are negative or not finite; give the weights after the softmax";
    for discard_ratio in [0.0, 0.9] {
        let options = Rollout { discard_ratio, ..Rollout::default() };
        assert_eq!(refused(options, Query::Class), message);
    }
    // NaN in one head of the last layer only, which the maximum over the heads would hide.
    no_grad(|| {
        let variables = vit.variables().variables();
        let _ = variables["encoder.3.attention.keys.weight"].shallow_clone().fill_(0.0);
        let last = &variables["encoder.5.attention.keys.weight"];
        let _ = last.narrow(0, 32, 16).fill_(f64::NAN);
    });
    let options = Rollout { fusion: Fusion::Max, ..Rollout::default() };
    assert_eq!(refused(options, Query::Class), message);
    Ok(())
}

/// The ViT's forward pass with given factors instead of dropout.
fn forward_with(model: &VisionTransformer, images: &Tensor, factors: &[Tensor]) -> Tensor {
    let (embedding, n) = (&model.embedding, images.size()[0]);
    let patches = embedding.conv1.forward(images).flatten(2, 3).transpose(1, 2);
    let cls = embedding.cls_token.expand([n, -1, -1], false);
    let mut x = (Tensor::cat(&[cls, patches], 1) + &embedding.pos_embedding) * &factors[0];
    let block = |block: &Encoder, x: Tensor, factors: &[Tensor]| {
        // The last block has factors for the class token only; the other tokens don't reach the classifier.
        let drop = |y: Tensor, factors: &Tensor| {
            let rows = factors.size()[1];
            Tensor::cat(&[y.narrow(1, 0, rows) * factors, y.narrow(1, rows, y.size()[1] - rows)], 1)
        };
        let x = &x + drop(block.attention.forward(&block.norm1.forward(&x), false).0, &factors[0]);
        let hidden = block.fc1.forward(&block.norm2.forward(&x)).gelu("none");
        &x + drop(block.fc2.forward(&hidden), &factors[1])
    };
    for (i, encoder) in model.encoder.iter().enumerate() {
        x = block(encoder, x, &factors[1 + 2 * i..]);
    }
    model.classifier.forward(&model.norm.forward(&x))
}

#[test]
fn a_step_with_dropout_equals_libtorchs_with_the_same_factors() -> Result<()> {
    let _turn = turn();
    let (images, labels) = images(37)?;
    seed_everything(10);
    let model = VisionTransformer::new(&config(0.1), Device::Cpu)?;
    spread(model.variables(), 0.1);
    for level in CpuLevel::available() {
        let mut fused = Fused::vit(&model)?.with_level(level)?;
        seed_everything(11);
        let seed = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
        let factors = fused.dropout_factors(seed, 37);
        assert_eq!(factors.len(), 13);
        let dropped = factors[0].eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((dropped - 0.1).abs() < 0.005, "{dropped}");
        let logits = forward_with(&model, &images, &factors);
        let loss = logits.cross_entropy_for_logits(&labels);
        seed_everything(11);
        let batch = fused.cross_entropy(&images, &labels)?;
        assert_equal(&batch, &model, &loss, &logits, &format!("{level:?}"));
        // Another step draws other factors. Predictions have no dropout.
        assert_ne!(fused.cross_entropy(&images, &labels)?.loss, batch.loss);
        assert_near(&fused.predict(&images)?, &model.predict(&images)?, "inference");
    }
    Ok(())
}

#[test]
fn the_number_of_threads_changes_nothing() -> Result<()> {
    let _turn = turn();
    let (images, labels) = images(45)?;
    let threads = tch::get_num_threads();
    let mut results = Vec::new();
    for count in [1, 2, 5] {
        tch::set_num_threads(count);
        seed_everything(12);
        let vit = VisionTransformer::new(&config(0.1), Device::Cpu)?;
        let mut fused = Fused::vit(&vit)?;
        let vit = (fused.cross_entropy(&images, &labels)?, fused.predict(&images)?);
        let cnn = Cnn::new(&config(0.1), Device::Cpu)?;
        let mut fused = FusedCnn::new(&cnn)?;
        let cnn = (fused.cross_entropy(&images, &labels)?, fused.predict(&images)?);
        results.push([vit, cnn].map(|(b, prediction)| (b.loss, b.logits, b.gradient, prediction)));
    }
    tch::set_num_threads(threads);
    assert!(results.iter().all(|result| *result == results[0]));
    Ok(())
}

#[test]
fn a_training_goes_the_same_way() -> Result<()> {
    let _turn = turn();
    let config = Config {
        epochs: 5,
        warmup_epochs: 1,
        lr: 5e-4,
        batch_size: 32,
        n_layers: 2,
        train_images: Some(1280),
        test_images: Some(200),
        ..config(0.0)
    };
    let data = FashionMnist::read(&source::find(Some("synthetic"))?, &config, Device::Cpu)?;
    let train = |by_hand: bool| -> Result<(Vec<f64>, f64)> {
        seed_everything(13);
        let model = VisionTransformer::new(&config, Device::Cpu)?;
        let mut trainer = Trainer::new(&model, &config)?;
        let mut fused = Fused::vit(&model)?;
        let mut losses = Vec::new();
        for _ in trainer.epochs() {
            let score = trainer.epoch(&data.train, |images, labels| {
                if by_hand {
                    return fused.cross_entropy(images, labels);
                }
                let (logits, _) = model.forward(images, true, false)?;
                Ok((logits.cross_entropy_for_logits(labels), logits).into())
            })?;
            losses.push(score.loss);
            trainer.record(score, &evaluate(&model, &data.test)?);
        }
        Ok((losses, trainer.history.epochs[1].test_loss))
    };
    let (by_hand, plain) = (train(true)?, train(false)?);
    for (a, b) in by_hand.0.iter().chain([&by_hand.1]).zip(plain.0.iter().chain([&plain.1])) {
        assert!((a - b).abs() < 1e-3 * b, "{by_hand:?} {plain:?}");
    }
    assert!(plain.0[4] < 0.7 * plain.0[0], "it learns: {plain:?}");
    Ok(())
}

/// The teacher's forward pass in training, with given factors instead of dropout and without an update of the running
/// statistics.
fn cnn_forward_with(model: &Cnn, images: &Tensor, factors: &[Tensor; 2]) -> Tensor {
    let variables = model.variables().variables();
    let of = |name: &str| &variables[name];
    let mut x = images.shallow_clone();
    for (i, convolutions) in [1, 2, 2].into_iter().enumerate() {
        for j in 0..convolutions {
            let [conv, weight, bias] =
                ["conv.weight", "bn.weight", "bn.bias"].map(|name| of(&format!("stages.{i}.{j}.{name}")));
            x = x.conv2d(conv, None::<Tensor>, 1, 1, 1, 1);
            let none = None::<Tensor>;
            x = x.batch_norm(Some(weight), Some(bias), none.as_ref(), none.as_ref(), true, 0.1, 1e-5, false).relu();
        }
        x = x.max_pool2d_default(2);
    }
    let linear = |x: &Tensor, name: &str| {
        let [weight, bias] = ["weight", "bias"].map(|end| of(&format!("{name}.{end}")));
        x.linear(weight, Some(bias))
    };
    let hidden = linear(&(x.flatten(1, -1) * &factors[0]), "fc1").relu();
    linear(&(hidden * &factors[1]), "fc2")
}

/// Images of noise and labels. In real images, rounding decides which of equal neighbours is the maximum of a pool.
fn noise(n: i64) -> (Tensor, Tensor) {
    let options = (Kind::Float, Device::Cpu);
    let labels = Tensor::randint(10, [n], (Kind::Int64, Device::Cpu));
    (Tensor::randn([n, 1, 28, 28], options), labels)
}

#[test]
fn a_teachers_step_equals_libtorchs() -> Result<()> {
    let _turn = turn();
    for (n, dropout) in [(2, 0.0), (1, 0.0), (3, 0.1)] {
        seed_everything(14);
        let (images, labels) = noise(n);
        let model = Cnn::new(&config(dropout), Device::Cpu)?;
        spread(model.variables(), 0.01);
        for level in CpuLevel::available() {
            let what = format!("{level:?}, {n} images, dropout {dropout}");
            let mut fused = FusedCnn::new(&model)?.with_level(level)?;
            seed_everything(15);
            let seed = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
            let factors = fused.dropout_factors(seed, n as usize);
            let logits = cnn_forward_with(&model, &images, &factors);
            let loss = logits.cross_entropy_for_logits(&labels);
            seed_everything(15);
            let batch = fused.cross_entropy(&images, &labels)?;
            assert_equal(&batch, &model, &loss, &logits, &what);
        }
    }
    Ok(())
}

/// Running statistics after training steps, and predictions with them, on more real images than a thread computes at once.
#[test]
fn a_teachers_norms_remember_what_libtorchs_do() -> Result<()> {
    let _turn = turn();
    let (images, labels) = images(131)?;
    let buffers = |model: &Cnn| -> Vec<(String, Tensor)> {
        let all = model.variables().variables().into_iter();
        let running = all.filter(|(name, _)| name.contains("running"));
        running.map(|(name, t)| (name, t.copy())).collect()
    };
    for level in CpuLevel::available() {
        seed_everything(16);
        let model = Cnn::new(&config(0.0), Device::Cpu)?;
        spread(model.variables(), 0.01);
        let other = Cnn::new(&config(0.0), Device::Cpu)?;
        copy(&model, &other);
        let mut fused = FusedCnn::new(&model)?.with_level(level)?;
        for _ in 0..3 {
            let batch = fused.cross_entropy(&images, &labels)?;
            let logits = other.forward(&images, true)?;
            assert_near(&batch.logits, &logits.detach(), "logits in training");
        }
        let expected: std::collections::BTreeMap<_, _> = buffers(&other).into_iter().collect();
        assert_eq!(expected.len(), 10);
        for (name, ours) in buffers(&model) {
            assert_near(&ours, &expected[&name], &format!("{level:?} {name}"));
        }
        assert_near(&fused.predict(&images)?, &other.predict(&images)?, "inference");
    }
    Ok(())
}

fn copy(from: &Cnn, to: &Cnn) {
    let from = from.variables().variables();
    tch::no_grad(|| {
        for (name, mut variable) in to.variables().variables() {
            variable.copy_(&from[&name]);
        }
    });
}
