//! The student, the teacher, both losses and all gradients, compared with PyTorch on real test images.

mod common;
#[path = "common/tensors.rs"]
mod tensors;

use common::reference;
use tch::{Device, Kind, Tensor};
use tensors::{assert_gradients, difference, generator_lock, gradients, named, read, spread, write};
use vitlab::checkpoint;
use vitlab::config::Precision;
use vitlab::data::{FashionMnist, seed_everything};
use vitlab::distill::{HardDistillationLoss, KlReduction, SoftDistillationLoss};
use vitlab::learner::fused::FusedCnn;
use vitlab::model::{Cnn, Model, MyDeiT};
use vitlab::{Config, Result};

#[test]
fn student_teacher_and_losses_equal_pytorch() -> Result<()> {
    let _lock = generator_lock();
    let config = Config { test_images: Some(32), dropout: 0.0, ..Config::default() };
    let data = FashionMnist::load(&config, Device::Cpu)?;
    let images = data.test.normalised(&Tensor::arange(32, (Kind::Int64, Device::Cpu)));
    let labels = &data.test.labels;
    seed_everything(11);
    let student = MyDeiT::new(&config, Device::Cpu)?;
    let teacher = Cnn::new(&config, Device::Cpu)?;
    spread(student.variables(), 0.1);
    spread(teacher.variables(), 0.02);
    // Running statistics that differ from the initial ones reveal errors in the buffers.
    let _ = tch::no_grad(|| teacher.forward(&images.narrow(0, 0, 16), true))?;

    // Input for the teacher's gradient. On a plain background all pixels are equal and rounding would decide which of them
    // max pooling selects; noise decides instead. Two images suffice: with more, some of the millions of activations are so
    // close to ReLU's kink that rounding decides their gradient.
    let noisy = images.narrow(0, 0, 2);
    let noisy = &noisy + noisy.randn_like() * 0.5;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for (name, store) in [("student.pt", student.variables()), ("teacher.pt", teacher.variables())] {
        checkpoint::write(path(name), &checkpoint::state_dict(store))?;
    }
    write(&path("batch.safetensors"), &[("images", &images), ("labels", labels), ("noisy", &noisy)])?;
    reference("check_distillation.py", &[folder.path()]);
    let expected = read(&path("expected.safetensors"))?;
    let close = |name: &str, ours: &Tensor| {
        let error = difference(ours, &expected[name]);
        assert!(error < 1e-5, "{name}: {error}");
    };

    let teacher_logits = teacher.predict(&images)?;
    close("teacher", &teacher_logits);
    close("average", &student.predict(&images)?);
    let (heads, attention) = student.forward(&images, true, true)?;
    close("class", &heads.class);
    close("dist", &heads.dist);
    close("attention", &attention.expect("requested"));

    let hard = |label_smoothing| HardDistillationLoss { label_smoothing }.forward(&heads, &teacher_logits, labels);
    let soft = |label_smoothing, reduction| {
        let loss = SoftDistillationLoss { label_smoothing, reduction, ..Default::default() };
        loss.forward(&heads, &teacher_logits, labels)
    };
    for smoothing in [0.0, 0.1] {
        close(&format!("hard.{smoothing:.1}"), &hard(smoothing));
        close(&format!("soft.{smoothing:.1}"), &soft(smoothing, KlReduction::BatchMean));
        close(&format!("soft_element.{smoothing:.1}"), &soft(smoothing, KlReduction::ElementMean));
    }
    for (loss, prefix) in [(hard(0.0), "hard_gradient"), (soft(0.0, KlReduction::BatchMean), "soft_gradient")] {
        let ours = gradients(&loss, student.variables());
        assert_gradients(&ours, named(&expected, prefix), prefix);
    }

    let training = teacher.forward(&images, true)?;
    close("teacher_training", &training);
    for (name, buffer) in teacher.variables().variables() {
        if !buffer.requires_grad() {
            close(&format!("buffer.{name}"), &buffer);
        }
    }
    let loss = teacher.forward(&noisy, true)?.cross_entropy_for_logits(&labels.narrow(0, 0, 2));
    let ours = gradients(&loss, teacher.variables());
    assert_gradients(&ours, named(&expected, "teacher_gradient"), "teacher");
    Ok(())
}

/// bfloat16 has eight significant bits: each product has an error of up to 0.4 %. The reference is the float32 teacher,
/// which equals PyTorch's.
#[test]
fn in_bfloat16_the_teacher_computes_the_same_to_that_precision() -> Result<()> {
    let _lock = generator_lock();
    seed_everything(12);
    let config = Config { test_images: Some(32), dropout: 0.0, ..Config::default() };
    let data = FashionMnist::load(&config, Device::Cpu)?;
    let images = data.test.normalised(&Tensor::arange(32, (Kind::Int64, Device::Cpu)));
    // Among equal pixels, rounding would decide which one max pooling selects; noise decides instead.
    let images = &images + images.randn_like() * 0.5;
    let full = Cnn::new(&config, Device::Cpu)?;
    let config = Config { precision: Precision::Bfloat16, ..config };
    let half = Cnn::new(&config, Device::Cpu)?;
    let dict = checkpoint::state_dict(full.variables());
    checkpoint::assign(half.variables(), &dict, "full.pt".as_ref())?;
    let step = |teacher: &Cnn| {
        let logits = teacher.forward(&images, true)?;
        let loss = logits.cross_entropy_for_logits(&data.test.labels);
        Ok::<_, vitlab::Error>((logits, gradients(&loss, teacher.variables())))
    };
    let (logits, gradients) = step(&full)?;
    let (half_logits, half_gradients) = step(&half)?;
    assert_ne!(logits, half_logits);
    assert!(difference(&half_logits, &logits) < 0.05);
    for (name, expected) in &gradients {
        let ours = &half_gradients[name];
        assert_eq!(ours.kind(), Kind::Float, "{name}");
        let cosine = ours.flatten(0, -1).dot(&expected.flatten(0, -1)) / (ours.norm() * expected.norm());
        let cosine = cosine.double_value(&[]);
        // Smallest for the norms' biases, whose gradients cancel most: 0.94 and above in six draws.
        assert!(cosine > 0.85, "{name}: cosine {cosine}");
    }
    let expected = full.variables().variables();
    for (name, ours) in half.variables().variables() {
        assert_eq!(ours.kind(), expected[&name].kind(), "{name}");
        if !ours.requires_grad() {
            let error = difference(&ours, &expected[&name]);
            assert!(error < 0.01, "{name}: {error}");
        }
    }
    assert!(difference(&half.predict(&images)?, &full.predict(&images)?) < 0.03);
    // The fused training step supports float32 only.
    let Err(error) = FusedCnn::new(&half) else {
        panic!("there is no fused step in bfloat16");
    };
    assert!(error.to_string().contains("float32"), "{error}");
    Ok(())
}
