//! The models on a GPU against the CPU engine. Without a GPU, libtorch's own operations on the CPU take its place.
//!
//! cuDNN rounds the operands of convolutions to TF32 unless NVIDIA_TF32_OVERRIDE=0 forbids it.

#[path = "common/tensors.rs"]
#[allow(dead_code)] // the functions that read and write files
mod tensors;

use tch::{Device, Kind, Tensor, no_grad};
use tensors::{difference, generator_lock as turn, gradients, spread};
use vitlab::data::seed_everything;
use vitlab::distill::HardDistillationLoss;
use vitlab::explain::{Fusion, Query, Rollout};
use vitlab::learner::{Learner, Loss, ModelKind};
use vitlab::model::{Cnn, Model, MyDeiT, VisionTransformer};
use vitlab::{Config, Result};

/// Float32 rounding, added up in another order.
const TOLERANCE: f64 = 1e-4;

const KINDS: [ModelKind; 3] = [ModelKind::Vit, ModelKind::Cnn, ModelKind::Deit];

/// The device to test, without TF32.
fn device() -> Device {
    let device = Device::cuda_if_available();
    if device == Device::Cpu {
        eprintln!("no GPU: libtorch's operations on the CPU are compared with the engine");
    } else {
        let tf32 = std::env::var("NVIDIA_TF32_OVERRIDE");
        assert_eq!(tf32.as_deref(), Ok("0"), "set NVIDIA_TF32_OVERRIDE=0, or the GPU computes with ten bits");
    }
    device
}

/// A model with uneven weights on the CPU engine, and the same model on the device.
fn pair(kind: ModelKind, device: Device) -> Result<[Learner; 2]> {
    let config = Config { dropout: 0.0, ..Config::default() };
    seed_everything(5);
    let engine = Learner::create(kind, &config, Device::Cpu)?;
    assert!(engine.is_fused());
    spread(engine.variables(), if kind == ModelKind::Cnn { 0.01 } else { 0.05 });
    let other = match kind {
        ModelKind::Vit => Learner::plain(VisionTransformer::new(&config, device)?),
        ModelKind::Cnn => Learner::plain(Cnn::new(&config, device)?),
        ModelKind::Deit => Learner::plain(MyDeiT::new(&config, device)?),
    };
    let (from, mut to) = (engine.variables().variables(), other.variables().variables());
    no_grad(|| to.iter_mut().for_each(|(name, variable)| variable.copy_(&from[name])));
    Ok([engine, other])
}

/// Images of noise, their labels, and a teacher's logits. A CNN has few images: in many, rounding somewhere decides the sign
/// of a ReLU's argument or the maximum of a pool, and with it a part of the gradient.
fn batch(kind: ModelKind) -> [Tensor; 3] {
    let (n, float) = (if kind == ModelKind::Cnn { 3 } else { 32 }, (Kind::Float, Device::Cpu));
    let labels = Tensor::randint(10, [n], (Kind::Int64, Device::Cpu));
    [Tensor::randn([n, 1, 28, 28], float), labels, Tensor::randn([n, 10], float)]
}

fn assert_near(ours: &Tensor, expected: &Tensor, what: &str) {
    let apart = difference(&ours.to_device(Device::Cpu), expected);
    assert!(apart < TOLERANCE, "{what}: {apart:e} of the largest value apart");
}

#[test]
fn predictions_and_rollouts_are_those_of_the_engine() -> Result<()> {
    let (_turn, device) = (turn(), device());
    for kind in KINDS {
        let [engine, other] = pair(kind, device)?;
        let [images, ..] = batch(kind);
        let there = images.to_device(device);
        assert_near(&other.predict(&there)?, &engine.predict(&images)?, &format!("{kind:?}, logits"));
        if kind == ModelKind::Cnn {
            continue;
        }
        for (fusion, discard_ratio) in [(Fusion::Mean, 0.0), (Fusion::Max, 0.5)] {
            let options = Rollout { fusion, discard_ratio, ..Rollout::default() };
            let rows =
                |learner: &Learner, images| Ok::<_, vitlab::Error>(learner.rollout(images, &options, Query::Class)?.0);
            let what = format!("{kind:?}, rollout {fusion} {discard_ratio}");
            assert_near(&rows(&other, &there)?, &rows(&engine, &images)?, &what);
        }
    }
    Ok(())
}

#[test]
fn losses_and_gradients_are_those_of_the_engine() -> Result<()> {
    let (_turn, device) = (turn(), device());
    for kind in KINDS {
        let [engine, other] = pair(kind, device)?;
        let [images, labels, teacher] = batch(kind);
        let [images_there, labels_there, teacher_there] = [&images, &labels, &teacher].map(|t| t.to_device(device));
        fn loss(kind: ModelKind, teacher: &Tensor) -> Loss<'_> {
            match kind {
                ModelKind::Deit => Loss::Hard { loss: HardDistillationLoss::default(), teacher },
                _ => Loss::CrossEntropy,
            }
        }
        let expected = engine.step(&images, &labels, loss(kind, &teacher))?;
        let ours = other.step(&images_there, &labels_there, loss(kind, &teacher_there))?;
        assert_near(&ours.loss.detach(), &expected.loss, &format!("{kind:?}, loss"));

        let flat = expected.gradient.expect("a fused batch has a gradient");
        let all = gradients(&ours.loss, other.variables());
        let names = other.variables().variables();
        let mut start = 0;
        for parameter in other.variables().trainable_variables() {
            let is_it = |(_, tensor): &(&String, &Tensor)| tensor.data_ptr() == parameter.data_ptr();
            let (name, _) = names.iter().find(is_it).expect("every parameter has a name");
            let length = parameter.numel() as i64;
            let gradient = flat.narrow(0, start, length).view_as(&parameter.to_device(Device::Cpu));
            start += length;
            // The gradient of a key's bias is rounding noise: softmax ignores a shift of all scores.
            if !name.ends_with("keys.bias") {
                assert_near(&all[name], &gradient, &format!("{kind:?}, gradient of {name}"));
            }
        }
        assert_eq!(start, flat.size()[0]);
    }
    Ok(())
}
