//! The CPU engine without libtorch: plain loops in float64 define the networks, and finite differences their gradients.

#[path = "fused_definition.rs"]
mod definition;

use definition::{Reader, loss, noise, rollout, transformer, wide};
use vitlab_fused::{
    Cnn, CnnShape, CpuLevel, Fusion, HeadTarget, NormStatistics, Precision, ResolvedRollout, Shape, Transformer,
};

/// Logits, [B][heads][classes].
type Logits = Vec<Vec<Vec<f64>>>;

/// Asserts that each value differs from the expected one by less than 1e-5 of the largest.
fn assert_close<'a>(ours: &[f32], expected: impl IntoIterator<Item = &'a f64>, what: &str) {
    let expected: Vec<f64> = expected.into_iter().copied().collect();
    let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert!((f64::from(*ours) - expected).abs() < 1e-5 * largest, "{what}, {i}: {ours} instead of {expected}");
    }
}

/// Compares every `step`-th element of a gradient with finite differences of the loss.
fn assert_gradient(gradients: &[(Vec<f32>, String)], parameters: &[f32], step: usize, loss: impl Fn(&[f64]) -> f64) {
    let mut parameters = wide(parameters);
    let mut difference = |i: usize| {
        let value = parameters[i];
        let [above, below] = [1e-6, -1e-6].map(|change| {
            parameters[i] = value + change;
            loss(&parameters)
        });
        parameters[i] = value;
        (above - below) / 2e-6
    };
    let expected: Vec<f64> = (0..gradients[0].0.len()).step_by(step).map(&mut difference).collect();
    for (gradient, what) in gradients {
        let sampled: Vec<f32> = gradient.iter().copied().step_by(step).collect();
        assert_close(&sampled, &expected, what);
    }
}

/// Probabilities that sum to 1 in each of `images` rows of three classes.
fn target(images: usize, seed: u64, weight: f32, temperature: f32) -> HeadTarget {
    let row = |x: &[f32]| [0, 1, 2].map(|i| x[i].abs() / (x[0].abs() + x[1].abs() + x[2].abs()));
    let probabilities = noise(3 * images, seed).chunks(3).flat_map(row).collect();
    HeadTarget { probabilities, weight, temperature }
}

/// A ViT with position rows for the patches only, and a DeiT.
fn shapes() -> [Shape; 2] {
    let vit = Shape {
        image_side: 6,
        patch_side: 2,
        channels: 2,
        embed: 32,
        heads: 2,
        hidden: 48,
        layers: 2,
        classes: 3,
        position_rows: 9,
        distilled: false,
        dropout: 0.1,
    };
    [vit, Shape { distilled: true, position_rows: 11, ..vit }]
}

#[test]
fn a_training_step_of_a_transformer_equals_its_definition() {
    for shape in shapes() {
        let (batch, seed) = (5, 42);
        let (images, parameters) = (noise(batch * shape.image_len(), 1), noise(shape.parameters(), 2));
        let parameters: Vec<f32> = parameters.iter().map(|x| x * 0.5).collect();
        let targets = [target(batch, 3, 0.7, 1.0), target(batch, 4, 0.3, 2.0)];
        let targets = &targets[..shape.prefix()];
        let engine = |level| {
            let mut engine = Transformer::new(shape, 2).unwrap().with_level(level).unwrap();
            engine.load(&parameters).unwrap();
            engine
        };
        let factors = engine(CpuLevel::Portable).dropout_factors(seed, batch);
        let forward = |parameters: &[f64]| -> Logits {
            let image = |i: usize| {
                // The last block has factors for the prefix tokens; the others don't reach the logits.
                let factor = |layer: usize, at: usize| {
                    let length = factors[layer].len() / batch;
                    if at < length { f64::from(factors[layer][i * length + at]) } else { 1.0 }
                };
                let image = wide(&images[i * shape.image_len()..][..shape.image_len()]);
                transformer(&shape, parameters, &image, factor).0
            };
            (0..batch).map(image).collect()
        };
        let expected = forward(&wide(&parameters));
        let mut gradients = Vec::new();
        for level in CpuLevel::available() {
            let what = format!("{level:?}, {} heads", shape.prefix());
            let mut engine = engine(level);
            let step = engine.train(&images, targets, seed).unwrap();
            assert!((step.loss - loss(&expected, targets)).abs() < 1e-5 * step.loss, "{what}: {}", step.loss);
            for (head, logits) in step.heads.iter().enumerate() {
                assert_close(logits, expected.iter().flat_map(|heads| &heads[head]), &what);
            }
            gradients.push((step.gradient.to_vec(), what));
        }
        assert_gradient(&gradients, &parameters, 29, |parameters| loss(&forward(parameters), targets));
    }
}

/// Mean absolute difference, divided by the mean absolute value.
fn apart(ours: &[f32], expected: &[f32]) -> f64 {
    let difference: f64 = ours.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).sum();
    difference / expected.iter().map(|x| f64::from(x.abs())).sum::<f64>()
}

/// Odd numbers of tokens, and a width that is an odd multiple of 16, have half-filled pairs.
#[test]
fn bfloat16_agrees_with_float32_to_its_precision() {
    let [vit, deit] = shapes();
    for shape in [vit, deit, Shape { embed: 48, heads: 3, ..vit }] {
        let (batch, seed) = (5, 42);
        let (images, parameters) = (noise(batch * shape.image_len(), 1), noise(shape.parameters(), 2));
        let parameters: Vec<f32> = parameters.iter().map(|x| x * 0.5).collect();
        let targets = [target(batch, 3, 0.7, 1.0), target(batch, 4, 0.3, 2.0)];
        let targets = &targets[..shape.prefix()];
        let mut engine = Transformer::new(shape, 2).unwrap();
        engine.load(&parameters).unwrap();
        let (float32, logits) =
            (engine.train(&images, targets, seed).unwrap().gradient.to_vec(), engine.heads(&images));
        let engine =
            engine.with_precision(Precision::Bfloat16).and_then(|e| e.with_training_precision(Precision::Bfloat16));
        let Ok(mut engine) = engine else {
            return eprintln!("not tested: no bfloat16 instructions");
        };
        engine.load(&parameters).unwrap();
        let bfloat16 = engine.train(&images, targets, seed).unwrap().gradient.to_vec();
        let (gradient, exact) = (apart(&bfloat16, &float32), logits.unwrap().concat());
        let logits = apart(&engine.heads(&images).unwrap().concat(), &exact);
        eprintln!("{} tokens, width {}: gradient {gradient:.1e}, logits {logits:.1e}", shape.tokens(), shape.embed);
        assert!(gradient < 0.02 && logits < 0.01, "{gradient:e}, {logits:e}");
        // Each precision has its own operands of the same parameters.
        let mut engine = engine.with_precision(Precision::Float32).unwrap();
        for _ in 0..2 {
            assert_eq!(engine.train(&images, targets, seed).unwrap().gradient, bfloat16);
            assert_eq!(engine.heads(&images).unwrap().concat(), exact);
        }
    }
}

#[test]
fn predictions_and_rollouts_equal_their_definition() {
    for shape in shapes() {
        let batch = 5;
        let (images, parameters) = (noise(batch * shape.image_len(), 5), noise(shape.parameters(), 6));
        let parameters: Vec<f32> = parameters.iter().map(|x| x * 0.5).collect();
        let expected: Vec<_> = images
            .chunks(shape.image_len())
            .map(|image| transformer(&shape, &wide(&parameters), &wide(image), |_, _| 1.0))
            .collect();
        let mut options = Vec::new();
        for (fusion, layers) in [(Fusion::Mean, vec![0, 1]), (Fusion::Max, vec![1]), (Fusion::Min, vec![0, 1])] {
            for (discard_ratio, discard_per_row, compat) in
                [(0.0, false, false), (0.6, false, true), (0.6, true, false)]
            {
                let (query, layers) = (options.len(), layers.clone());
                options.push(ResolvedRollout { fusion, discard_ratio, discard_per_row, compat, layers, query });
            }
        }
        for level in CpuLevel::available() {
            let mut engine = Transformer::new(shape, 2).unwrap().with_level(level).unwrap();
            engine.load(&parameters).unwrap();
            for options in &options {
                let (rows, heads) = engine.rollout(&images, options).unwrap();
                let what = format!("{level:?}, {options:?}");
                assert_eq!(heads, engine.heads(&images).unwrap(), "{what}");
                for (head, logits) in heads.iter().enumerate() {
                    assert_close(logits, expected.iter().flat_map(|(heads, _)| &heads[head]), &what);
                }
                let row = |(_, maps): &(_, Vec<Vec<f64>>)| rollout(maps, shape.heads, shape.tokens(), options);
                assert_close(&rows, &expected.iter().flat_map(row).collect::<Vec<_>>(), &what);
            }
        }
    }
}

/// Logits of images by the definition, with given statistics or those of the batch, which are returned.
fn cnn(
    shape: &CnnShape,
    parameters: &[f64],
    images: &[f64],
    statistics: Option<&[NormStatistics]>,
    factors: &[Vec<f64>; 2],
) -> (Logits, Vec<[Vec<f64>; 2]>) {
    let (mut read, mut x) = (Reader(parameters), images.to_vec());
    let (mut side, mut inputs, mut found) = (shape.image_side, shape.channels, Vec::new());
    let batch = images.len() / shape.image_len();
    for stage in &shape.stages {
        for &outputs in stage {
            let (weight, square) = (read.next(9 * inputs * outputs), side * side);
            let convolved = |i: usize| -> f64 {
                let (image, output, row, column) =
                    (i / square / outputs, i / square % outputs, i % square / side, i % side);
                let tap = |t: usize| {
                    let (y, x_) = ((row + t % 9 / 3).wrapping_sub(1), (column + t % 3).wrapping_sub(1));
                    let inside = y < side && x_ < side;
                    let at = || x[((image * inputs + t / 9) * side + y) * side + x_];
                    if inside { weight[output * inputs * 9 + t] * at() } else { 0.0 }
                };
                (0..9 * inputs).map(tap).sum()
            };
            let z: Vec<f64> = (0..batch * outputs * square).map(convolved).collect();
            let channel = |c: usize| z.chunks(square).skip(c).step_by(outputs).flatten();
            let n = (batch * square) as f64;
            let mean = |c: usize| channel(c).sum::<f64>() / n;
            let squares = |c: usize| channel(c).map(|z| (z - mean(c)).powi(2)).sum::<f64>();
            let (means, squares): (Vec<f64>, Vec<f64>) = (0..outputs).map(|c| (mean(c), squares(c))).unzip();
            let of_batch = || (means.clone(), squares.iter().map(|x| x / n).collect::<Vec<_>>());
            let given = statistics.map(|all| (wide(&all[found.len()].mean), wide(&all[found.len()].variance)));
            let (mean, variance) = given.unwrap_or_else(of_batch);
            found.push([means, squares.iter().map(|x| x / (n - 1.0)).collect()]);
            let (weight, bias) = (read.next(outputs), read.next(outputs));
            let normed = |(i, z): (usize, &f64)| {
                let c = i / square % outputs;
                ((z - mean[c]) / (variance[c] + 1e-5).sqrt() * weight[c] + bias[c]).max(0.0)
            };
            x = z.iter().enumerate().map(normed).collect();
            inputs = outputs;
        }
        let half = side / 2;
        let pooled = |i: usize| {
            let (plane, row, column) = (i / (half * half), i / half % half, i % half);
            let at = |t: usize| x[(plane * side + 2 * row + t / 2) * side + 2 * column + t % 2];
            (0..4).map(at).fold(f64::NEG_INFINITY, f64::max)
        };
        x = (0..batch * inputs * half * half).map(pooled).collect();
        side = half;
    }
    let dropped = |x: Vec<f64>, factors: &[f64]| x.iter().zip(factors).map(|(x, f)| x * f).collect::<Vec<_>>();
    let hidden = read.linear(&dropped(x, &factors[0]), inputs * side * side, shape.hidden);
    let hidden = dropped(hidden.iter().map(|x| x.max(0.0)).collect(), &factors[1]);
    let logits = read.linear(&hidden, shape.hidden, shape.classes);
    assert!(read.0.is_empty());
    (logits.chunks(shape.classes).map(|logits| vec![logits.to_vec()]).collect(), found)
}

#[test]
fn a_cnns_step_and_predictions_equal_their_definition() {
    let (stages, dropout) = (vec![vec![32], vec![32]], 0.1);
    let shape = CnnShape { image_side: 7, channels: 2, stages, hidden: 16, classes: 3, dropout };
    let (batch, seed) = (9, 3);
    let engine = |level| Cnn::new(shape.clone(), 2).unwrap().with_level(level).unwrap();
    let images = noise(batch * shape.image_len(), 7);
    let parameters: Vec<f32> = noise(engine(CpuLevel::Portable).parameters(), 8).iter().map(|x| x * 0.3).collect();
    let targets = [target(batch, 9, 1.0, 1.0)];
    let factors = engine(CpuLevel::Portable).dropout_factors(seed, batch).map(|factors| wide(&factors));
    let forward = |parameters: &[f64]| cnn(&shape, parameters, &wide(&images), None, &factors);
    let (expected, found) = forward(&wide(&parameters));
    let flat = |logits: &[Vec<Vec<f64>>]| logits.concat().concat();
    let mut gradients = Vec::new();
    for level in CpuLevel::available() {
        let (what, mut engine) = (format!("{level:?}"), engine(level));
        engine.load(&parameters).unwrap();
        let (step, statistics) = engine.train(&images, &targets[0], seed).unwrap();
        let apart = (step.loss - loss(&expected, &targets)).abs();
        assert!(apart < 1e-5 * step.loss, "{what}: {apart:e} apart");
        assert_close(&step.heads[0], &flat(&expected), &what);
        gradients.push((step.gradient.to_vec(), what.clone()));
        for (ours, [mean, variance]) in statistics.iter().zip(&found) {
            assert_close(&ours.mean, mean, &what);
            assert_close(&ours.variance, variance, &what);
        }
        let ones = factors.clone().map(|factors| vec![1.0; factors.len()]);
        let (expected, _) = cnn(&shape, &wide(&parameters), &wide(&images), Some(&statistics), &ones);
        assert_close(&engine.predict(&images, &statistics).unwrap(), &flat(&expected), &what);
    }
    assert_gradient(&gradients, &parameters, 67, |parameters| loss(&forward(parameters).0, &targets));
}

/// A step, a prediction and a rollout of any shape, as in the fuzz target.
#[test]
fn any_shape_equals_its_definition() {
    let shapes = if cfg!(miri) { 1 } else { 30 }; // Miri takes minutes for one
    for seed in 0..shapes {
        definition::check(|n| (seed * 37 + 11) / n + seed * n);
    }
}

#[test]
fn impossible_arguments_are_refused_with_a_sentence() {
    let [vit, deit] = shapes();
    let refusal = |shape| Transformer::new(shape, 1).err().expect("an impossible shape").to_string();
    assert!(refusal(Shape { heads: 4, ..vit }).contains("a multiple of 16 numbers"));
    for shape in [Shape { layers: 0, ..vit }, Shape { patch_side: 4, ..vit }, Shape { dropout: 1.0, ..vit }] {
        assert!(refusal(shape).contains("is impossible"));
    }
    let mut engine = Transformer::new(deit, 1).unwrap();
    assert!(engine.load(&[0.0]).unwrap_err().to_string().contains("parameters, not 1"));
    assert!(engine.heads(&[0.0]).unwrap_err().to_string().contains("a multiple of 72"));
    let targets = [target(1, 1, 1.0, 1.0)];
    let images = vec![0.0; deit.image_len()];
    assert!(engine.train(&images, &targets, 0).unwrap_err().to_string().contains("has 2 heads"));
    assert!(engine.train(&[], &targets, 0).unwrap_err().to_string().contains("at least one image"));
    let rollout = ResolvedRollout {
        fusion: Fusion::Mean,
        discard_ratio: 0.0,
        discard_per_row: false,
        compat: false,
        layers: vec![2],
        query: 0,
    };
    assert!(engine.rollout(&images, &rollout).unwrap_err().to_string().contains("give layers below 2"));
    let shape = CnnShape { image_side: 8, channels: 1, stages: vec![vec![8]], hidden: 16, classes: 3, dropout: 0.0 };
    assert!(Cnn::new(shape, 1).err().expect("8 channels").to_string().contains("multiples of 32"));
}
