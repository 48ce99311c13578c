//! Parts of a training step and of an explanation that need libtorch:
//!
//!     cargo bench --profile dev --package vitlab-benches --bench speed
//!
//! The profile is the one that libtorch's glue is already built in. `benches/engine.rs` measures
//! the CPU engine alone, and `cargo lab bench` compares whole steps with PyTorch's.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use vitlab::Config;
use vitlab::data::{augment, seed_everything};
use vitlab::explain::{Fusion, Rollout, rollout};
use vitlab::learner::fused::Fused;
use vitlab::model::{Model, VisionTransformer};
use vitlab::train::AdamW;

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// The homework's batch of noise, and its labels.
fn batch() -> (Tensor, Tensor) {
    seed_everything(0);
    let images = Tensor::randint(256, [128, 28, 28], (Kind::Uint8, Device::Cpu));
    let labels = Tensor::randint(10, [128], (Kind::Int64, Device::Cpu));
    (augment(&images), labels)
}

fn model() -> VisionTransformer {
    VisionTransformer::new(&Config::default(), Device::Cpu).expect("the homework's sizes")
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step of the ViT, batch 128");
    group.sample_size(10);
    let ((images, labels), config) = (batch(), Config::default());
    let fused_model = model();
    let mut optimizer = AdamW::new(fused_model.variables(), config.weight_decay);
    let mut fused = Fused::vit(&fused_model).expect("the homework's sizes");
    group.bench_function("fused", |bencher| {
        bencher.iter(|| {
            let batch = fused.cross_entropy(&images, &labels).expect("28 × 28 images");
            let gradient = batch.gradient.expect("a fused batch has one");
            optimizer.step(&[gradient], config.lr).expect("its own gradient");
        });
    });
    let plain = model();
    let mut optimizer = AdamW::new(plain.variables(), config.weight_decay);
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            let (logits, _) = plain.forward(&images, true, false).expect("28 × 28 images");
            let loss = logits.cross_entropy_for_logits(&labels);
            optimizer.backward_step(&loss, config.lr).expect("a loss of all parameters");
        });
    });
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    seed_everything(0);
    let bytes = Tensor::randint(256, [128, 28, 28], (Kind::Uint8, Device::Cpu));
    criterion.bench_function("augmentation of 128 images", |bencher| {
        bencher.iter(|| augment(black_box(&bytes)));
    });
    let model = model();
    let mut optimizer = AdamW::new(model.variables(), 1e-3);
    let gradient = Tensor::randn([model.parameters()], FLOAT) * 1e-3;
    criterion.bench_function("optimizer step", |bencher| {
        bencher.iter(|| optimizer.step(&[&gradient], 1e-4).expect("one number per parameter"));
    });
    // In the last block for the class token only, as the CPU engine does it.
    let activations: Vec<Tensor> =
        [50; 11].into_iter().chain([1; 2]).map(|tokens| Tensor::ones([128, tokens, 64], FLOAT)).collect();
    criterion.bench_function("dropout of a training step, batch 128", |bencher| {
        bencher.iter(|| activations.iter().map(|x| x.dropout(0.1, true)).collect::<Vec<_>>());
    });
}

fn explaining(criterion: &mut Criterion) {
    seed_everything(0);
    let attention = Tensor::randn([250, 6, 4, 50, 50], FLOAT).softmax(-1, Kind::Float);
    let options = Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() };
    let mut group = criterion.benchmark_group("rollout of 250 images");
    group.sample_size(10);
    for (name, options) in [("mean", &Rollout::default()), ("max, 0.9", &options)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| rollout(black_box(&attention), options).expect("attention"));
        });
    }
    group.finish();
}

criterion_group!(benches, steps, parts, explaining);
criterion_main!(benches);
