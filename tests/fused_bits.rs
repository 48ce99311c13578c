//! Results of the CPU engine are the same bits for any number of threads, at each level. Prints a fingerprint of each case:
//! a change that keeps the order of all sums keeps the fingerprints of one machine.
//!
//!     cargo test -p vitlab-fused --test fused_bits -- --nocapture

use std::hash::{DefaultHasher, Hash, Hasher};

use vitlab_fused::{
    Cnn, CnnShape, CpuLevel, Fusion, HeadTarget, NormStatistics, Precision, ResolvedRollout, Shape, Transformer,
};

fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.f32() * 0.4 - 0.2).collect()
}

/// Hash of the bits of all values.
#[derive(Default)]
struct Fingerprint(DefaultHasher);

impl Fingerprint {
    fn add(&mut self, values: &[f32]) {
        values.iter().for_each(|x| x.to_bits().hash(&mut self.0));
    }
}

fn target(images: usize, classes: usize, seed: u64, temperature: f32) -> HeadTarget {
    let probabilities = noise(images * classes, seed).iter().map(|x| (x + 0.2) / (0.2 * classes as f32)).collect();
    HeadTarget { probabilities, weight: 0.5, temperature }
}

/// Descends along the gradient, so that each step depends on all bits of the steps before.
fn descend(parameters: &mut [f32], gradient: &[f32]) {
    for (x, d) in parameters.iter_mut().zip(gradient) {
        *x -= 0.1 * d;
    }
}

/// The ViT and DeiT of the homework, and sizes with padding: patches of 18 values, tokens in half-filled pairs.
fn shapes() -> Vec<(Shape, usize)> {
    let vit = Shape {
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
    let deit = Shape { position_rows: 51, distilled: true, ..vit };
    let (small, patches) = (Shape { image_side: 12, patch_side: 3, channels: 2, layers: 2, classes: 3, ..vit }, 16);
    let odd = Shape { embed: 96, heads: 2, hidden: 80, position_rows: patches, ..small };
    let odd_deit = Shape { embed: 48, heads: 3, hidden: 48, position_rows: patches + 2, distilled: true, ..small };
    vec![(vit, 37), (deit, 21), (odd, 11), (odd_deit, 5)]
}

/// Three training steps, predictions and rollouts of an engine.
fn transformer(mut engine: Transformer, batch: usize) -> u64 {
    let (shape, mut hash) = (*engine.shape(), Fingerprint::default());
    let (images, mut parameters) = (noise(batch * shape.image_len(), 1), noise(shape.parameters(), 2));
    let targets: Vec<_> = (0..shape.prefix()).map(|i| target(batch, shape.classes, i as u64, 1.0 + i as f32)).collect();
    for seed in 0..3 {
        engine.load(&parameters).unwrap();
        let step = engine.train(&images, &targets, seed).unwrap();
        step.heads.iter().for_each(|logits| hash.add(logits));
        hash.add(&[step.loss as f32]);
        descend(&mut parameters, step.gradient);
        hash.add(&parameters);
    }
    engine.load(&parameters).unwrap();
    engine.heads(&images).unwrap().iter().for_each(|logits| hash.add(logits));
    for (i, fusion) in [Fusion::Mean, Fusion::Max, Fusion::Min].into_iter().enumerate() {
        for (discard_ratio, discard_per_row, compat) in [(0.9, false, false), (0.6, true, false), (0.0, false, true)] {
            let layers = (i.min(1)..shape.layers).collect();
            let rollout = ResolvedRollout { fusion, discard_ratio, discard_per_row, compat, layers, query: 3 * i };
            let (rows, heads) = engine.rollout(&images, &rollout).unwrap();
            hash.add(&rows);
            heads.iter().for_each(|logits| hash.add(logits));
        }
    }
    hash.0.finish()
}

/// Three training steps and a prediction of an engine.
fn cnn(mut engine: Cnn, batch: usize) -> u64 {
    let (shape, mut hash) = (engine.shape().clone(), Fingerprint::default());
    let (images, mut parameters) = (noise(batch * shape.image_len(), 1), noise(engine.parameters(), 2));
    let target = target(batch, shape.classes, 3, 1.0);
    let mut norms: Vec<NormStatistics> = Vec::new();
    for seed in 0..3 {
        engine.load(&parameters).unwrap();
        let (step, statistics) = engine.train(&images, &target, seed).unwrap();
        hash.add(&step.heads[0]);
        hash.add(&[step.loss as f32]);
        descend(&mut parameters, step.gradient);
        hash.add(&parameters);
        norms = statistics;
    }
    for norm in &norms {
        hash.add(&norm.mean);
        hash.add(&norm.variance);
    }
    engine.load(&parameters).unwrap();
    hash.add(&engine.predict(&images, &norms).unwrap());
    hash.0.finish()
}

/// Asserts that the fingerprint of 1, 2 and 3 threads is the same, and prints it.
fn same(what: &str, fingerprint: impl Fn(usize) -> u64) {
    let one = fingerprint(1);
    for threads in [2, 3] {
        assert_eq!(fingerprint(threads), one, "{what}: {threads} threads");
    }
    println!("{one:016x} {what}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let stages = vec![vec![32], vec![64, 64], vec![128, 128]];
    let teacher = CnnShape { image_side: 28, channels: 1, stages, hidden: 256, classes: 10, dropout: 0.1 };
    let small =
        CnnShape { image_side: 13, channels: 3, stages: vec![vec![32, 96], vec![64]], hidden: 48, ..teacher.clone() };
    for level in CpuLevel::available() {
        for (shape, batch) in shapes() {
            let engine =
                |threads| Transformer::new(shape, threads).and_then(|engine| engine.with_level(level)).unwrap();
            let what = format!("{level:?}, {} tokens of width {}", shape.tokens(), shape.embed);
            same(&what, |threads| transformer(engine(threads), batch));
            if engine(1).with_precision(Precision::Bfloat16).is_ok() {
                same(&format!("{what}, bfloat16"), |threads| {
                    let engine = engine(threads).with_training_precision(Precision::Bfloat16).unwrap();
                    transformer(engine.with_precision(Precision::Bfloat16).unwrap(), batch)
                });
            }
        }
        for (shape, batch) in [(&teacher, 37), (&small, 9), (&small, 5)] {
            let engine =
                |threads| Cnn::new(shape.clone(), threads).and_then(|engine| engine.with_level(level)).unwrap();
            let what = format!("{level:?}, CNN, {} pixels, {batch} images", shape.image_side);
            same(&what, |threads| cnn(engine(threads), batch));
        }
    }
}
