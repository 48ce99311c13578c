//! Training steps, predictions and rollouts of the CPU engine, at the homework's sizes:
//!
//!     cargo bench --profile dev --package vitlab-benches --bench engine
//!
//! The profile is the one that notebooks and commands are built with. They call the engine directly, without libtorch.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vitlab_fused::{Cnn, CnnShape, CpuLevel, Fusion, HeadTarget, Precision, ResolvedRollout, Shape, Transformer};

const VIT: Shape = Shape {
    image_side: 28,
    patch_side: 4,
    channels: 1,
    embed: 64,
    heads: 4,
    hidden: 128,
    layers: 6,
    classes: 10,
    position_rows: 50,
    distilled: false,
    dropout: 0.1,
};

fn noise(length: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(0);
    (0..length).map(|_| random.f32() * 0.2 - 0.1).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

fn vit() -> Transformer {
    Transformer::new(VIT, threads()).expect("the homework's sizes")
}

fn target() -> HeadTarget {
    HeadTarget { probabilities: vec![0.1; 128 * 10], weight: 1.0, temperature: 1.0 }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training step, batch 128");
    group.sample_size(10);
    let (images, targets) = (noise(128 * VIT.image_len()), [target()]);
    for level in CpuLevel::available() {
        let mut vit = vit().with_level(level).expect("an available level");
        vit.load(&noise(VIT.parameters())).expect("all parameters");
        group.bench_function(format!("ViT, {level:?}"), |bencher| {
            bencher.iter(|| vit.train(black_box(&images), &targets, 7).expect("128 images").loss);
        });
        if let Ok(mut vit) = vit.with_training_precision(Precision::Bfloat16) {
            vit.load(&noise(VIT.parameters())).expect("all parameters");
            group.bench_function(format!("ViT, {level:?}, bfloat16"), |bencher| {
                bencher.iter(|| vit.train(black_box(&images), &targets, 7).expect("128 images").loss);
            });
        }
        let stages = vec![vec![32], vec![64, 64], vec![128, 128]];
        let shape = CnnShape { image_side: 28, channels: 1, stages, hidden: 256, classes: 10, dropout: 0.1 };
        let mut cnn = Cnn::new(shape, threads()).and_then(|cnn| cnn.with_level(level)).expect("the teacher's sizes");
        cnn.load(&noise(cnn.parameters())).expect("all parameters");
        group.bench_function(format!("CNN, {level:?}"), |bencher| {
            bencher.iter(|| cnn.train(black_box(&images), &targets[0], 7).expect("128 images").0.loss);
        });
    }
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let mut vit = vit();
    let parameters = [noise(VIT.parameters()), vec![0.1; VIT.parameters()]];
    let mut turns = 0;
    criterion.bench_function("loading changed parameters of the ViT", |bencher| {
        bencher.iter(|| {
            turns += 1;
            vit.load(&parameters[turns % 2]).expect("all parameters");
        });
    });
    criterion.bench_function("dropout factors of a training step, batch 128", |bencher| {
        bencher.iter(|| vit.dropout_factors(black_box(7), 128));
    });
}

fn explaining(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("250 images");
    group.sample_size(10);
    let images = noise(250 * VIT.image_len());
    let rollout = ResolvedRollout {
        fusion: Fusion::Max,
        discard_ratio: 0.9,
        discard_per_row: false,
        compat: false,
        layers: (0..6).collect(),
        query: 0,
    };
    for precision in [Precision::Float32, Precision::Bfloat16] {
        // Not every CPU has bfloat16 instructions.
        let Ok(mut vit) = vit().with_precision(precision) else {
            continue;
        };
        vit.load(&noise(VIT.parameters())).expect("all parameters");
        group.bench_function(format!("prediction, {precision:?}"), |bencher| {
            bencher.iter(|| vit.heads(black_box(&images)).expect("250 images"));
        });
        group.bench_function(format!("prediction and rollout, {precision:?}"), |bencher| {
            bencher.iter(|| vit.rollout(black_box(&images), &rollout).expect("250 images"));
        });
    }
    group.finish();
}

criterion_group!(benches, steps, parts, explaining);
criterion_main!(benches);
