//! The CPU engine without libtorch: plain loops in float64 define the networks, and finite differences their gradients.

use vitlab_fused::{Cnn, CnnShape, CpuLevel, Fusion, HeadTarget, NormStatistics, ResolvedRollout, Shape, Transformer};

/// Logits, [B][heads][classes].
type Logits = Vec<Vec<Vec<f64>>>;

fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

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

/// The mean over images of w τ² CE(t, softmax(z / τ)), summed over heads.
fn loss(images: &[Vec<Vec<f64>>], targets: &[HeadTarget]) -> f64 {
    let mut loss = 0.0;
    for (i, heads) in images.iter().enumerate() {
        for (z, target) in heads.iter().zip(targets) {
            let (w, tau) = (f64::from(target.weight), f64::from(target.temperature));
            let log_sum = z.iter().map(|z| (z / tau).exp()).sum::<f64>().ln();
            let t = &target.probabilities[i * z.len()..];
            let terms = z.iter().zip(t).map(|(z, t)| f64::from(*t) * (log_sum - z / tau));
            loss += w * tau * tau * terms.sum::<f64>() / images.len() as f64;
        }
    }
    loss
}

/// Probabilities that sum to 1 in each of `images` rows of three classes.
fn target(images: usize, seed: u64, weight: f32, temperature: f32) -> HeadTarget {
    let row = |x: &[f32]| [0, 1, 2].map(|i| x[i].abs() / (x[0].abs() + x[1].abs() + x[2].abs()));
    let probabilities = noise(3 * images, seed).chunks(3).flat_map(row).collect();
    HeadTarget { probabilities, weight, temperature }
}

/// Reads parameters in the order of the flat vector.
struct Reader<'a>(&'a [f64]);

impl<'a> Reader<'a> {
    fn next(&mut self, length: usize) -> &'a [f64] {
        let (parameter, rest) = self.0.split_at(length);
        self.0 = rest;
        parameter
    }

    /// A linear layer's bias and weight, applied to rows of `x`.
    fn linear(&mut self, x: &[f64], inputs: usize, outputs: usize) -> Vec<f64> {
        let (bias, weight) = (self.next(outputs), self.next(outputs * inputs));
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let row = |x: &[f64]| weight.chunks(inputs).zip(bias).map(|(w, b)| dot(x, w) + b).collect::<Vec<_>>();
        x.chunks(inputs).flat_map(row).collect()
    }

    fn norm(&mut self, x: &[f64], width: usize) -> Vec<f64> {
        let (weight, bias) = (self.next(width), self.next(width));
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let hat = x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
            hat.zip(weight.iter().zip(bias)).map(|(hat, (w, b))| hat * w + b).collect::<Vec<_>>()
        };
        x.chunks(width).flat_map(row).collect()
    }
}

/// x Φ(x), with Marsaglia's series for Φ.
fn gelu(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    x * (0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt())
}

/// Logits of each head and attention of each layer [H, S, S] of one image. `factor` gives the dropout factor of an element
/// of a dropout layer.
fn transformer(
    shape: &Shape,
    parameters: &[f64],
    image: &[f64],
    factor: impl Fn(usize, usize) -> f64,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let (e, s, side, p) = (shape.embed, shape.tokens(), shape.image_side, shape.patch_side);
    let mut read = Reader(parameters);
    let pixel = |patch: usize, i: usize| {
        let (y, x) = (patch / (side / p) * p + i / p % p, patch % (side / p) * p + i % p);
        image[(i / (p * p) * side + y) * side + x]
    };
    let width = shape.channels * p * p;
    let patches: Vec<f64> = (0..shape.patches() * width).map(|i| pixel(i / width, i % width)).collect();
    let patches = read.linear(&patches, width, e);
    let position = read.next(shape.position_rows * e);
    let mut x = [read.next(shape.prefix() * e), &patches].concat();
    let skipped = x.len() - position.len();
    x[skipped..].iter_mut().zip(position).for_each(|(x, position)| *x += position);
    x.iter_mut().enumerate().for_each(|(i, x)| *x *= factor(0, i));
    let mut maps = Vec::new();
    for layer in 0..shape.layers {
        let normed = read.norm(&x, e);
        let [queries, keys, values] = [0; 3].map(|_| read.linear(&normed, e, e));
        let d = e / shape.heads;
        let score = |head: usize, q: usize, k: usize| -> f64 {
            let product = |i: usize| queries[q * e + head * d + i] * keys[k * e + head * d + i];
            (0..d).map(product).sum::<f64>() / (d as f64).sqrt()
        };
        let powers: Vec<f64> = (0..shape.heads * s * s).map(|i| score(i / (s * s), i / s % s, i % s).exp()).collect();
        let map: Vec<f64> = powers.chunks(s).flat_map(|row| row.iter().map(|x| x / row.iter().sum::<f64>())).collect();
        let mixed = |i: usize| -> f64 {
            let (q, head) = (i / e, i % e / d);
            (0..s).map(|k| map[(head * s + q) * s + k] * values[k * e + i % e]).sum()
        };
        let mixed: Vec<f64> = (0..s * e).map(mixed).collect();
        let out = read.linear(&mixed, e, e);
        x.iter_mut().zip(out).enumerate().for_each(|(i, (x, y))| *x += y * factor(1 + 2 * layer, i));
        let normed = read.norm(&x, e);
        let hidden: Vec<f64> = read.linear(&normed, e, shape.hidden).into_iter().map(gelu).collect();
        let out = read.linear(&hidden, shape.hidden, e);
        x.iter_mut().zip(out).enumerate().for_each(|(i, (x, y))| *x += y * factor(2 + 2 * layer, i));
        maps.push(map);
    }
    let x = read.norm(&x, e);
    let hidden: Vec<f64> = read.linear(&x[..e], e, e).into_iter().map(f64::tanh).collect();
    let mut heads = vec![read.linear(&hidden, e, shape.classes)];
    if shape.distilled {
        heads.push(read.linear(&x[e..2 * e], e, shape.classes));
    }
    assert!(read.0.is_empty());
    (heads, maps)
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

/// The query's row of the rollout of attention, layers × [H, S, S].
fn rollout(maps: &[Vec<f64>], heads: usize, tokens: usize, rollout: &ResolvedRollout) -> Vec<f64> {
    let square = tokens * tokens;
    let identity = |i: usize| f64::from(i / tokens == i % tokens);
    let mut product: Vec<f64> = (0..square).map(identity).collect();
    for layer in &rollout.layers {
        let of_heads = |i: usize| maps[*layer].iter().skip(i).step_by(square);
        let mut matrix: Vec<f64> = match rollout.fusion {
            Fusion::Mean => (0..square).map(|i| of_heads(i).sum::<f64>() / heads as f64).collect(),
            Fusion::Max => (0..square).map(|i| of_heads(i).copied().fold(0.0, f64::max)).collect(),
            Fusion::Min => (0..square).map(|i| of_heads(i).copied().fold(1.0, f64::min)).collect(),
        };
        let class = matrix[0];
        for entries in matrix.chunks_mut(if rollout.discard_per_row { tokens } else { square }) {
            let mut order: Vec<usize> = (0..entries.len()).collect();
            order.sort_by(|a, b| entries[*a].total_cmp(&entries[*b]));
            for i in &order[..(entries.len() as f64 * rollout.discard_ratio) as usize] {
                entries[*i] = 0.0;
            }
        }
        matrix[0] = class;
        let with_identity: Vec<f64> = (0..square).map(|i| matrix[i] + identity(i)).collect();
        let sum = |row: usize| with_identity[row * tokens..][..tokens].iter().sum::<f64>();
        let divisor = |i: usize| sum(if rollout.compat { i % tokens } else { i / tokens });
        let matrix: Vec<f64> = (0..square).map(|i| with_identity[i] / divisor(i)).collect();
        let entry =
            |i: usize| (0..tokens).map(|k| matrix[i / tokens * tokens + k] * product[k * tokens + i % tokens]).sum();
        product = (0..square).map(entry).collect();
    }
    product[rollout.query * tokens..][..tokens].to_vec()
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
