//! The networks' definition: plain loops in float64 over one image. The engine's tests and its fuzz target compare with it.

use vitlab_fused::{CpuLevel, Fusion, HeadTarget, Precision, ResolvedRollout, Shape, Transformer};

pub fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.f32() * 2.0 - 1.0).collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// The mean over images of w τ² CE(t, softmax(z / τ)), summed over heads.
pub fn loss(images: &[Vec<Vec<f64>>], targets: &[HeadTarget]) -> f64 {
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

/// Reads parameters in the order of the flat vector.
pub struct Reader<'a>(pub &'a [f64]);

impl<'a> Reader<'a> {
    pub fn next(&mut self, length: usize) -> &'a [f64] {
        let (parameter, rest) = self.0.split_at(length);
        self.0 = rest;
        parameter
    }

    /// A linear layer's bias and weight, applied to rows of `x`.
    pub fn linear(&mut self, x: &[f64], inputs: usize, outputs: usize) -> Vec<f64> {
        let (bias, weight) = (self.next(outputs), self.next(outputs * inputs));
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let row = |x: &[f64]| weight.chunks(inputs).zip(bias).map(|(w, b)| dot(x, w) + b).collect::<Vec<_>>();
        x.chunks(inputs).flat_map(row).collect()
    }

    pub fn norm(&mut self, x: &[f64], width: usize) -> Vec<f64> {
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
pub fn gelu(x: f64) -> f64 {
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
pub fn transformer(
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

/// The query's row of the rollout of attention, layers × [H, S, S].
pub fn rollout(maps: &[Vec<f64>], heads: usize, tokens: usize, rollout: &ResolvedRollout) -> Vec<f64> {
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

/// Compares a training step's loss, predictions and rollouts of one shape with their definition, at all levels of this CPU and
/// in bfloat16, and the gradients of the levels with each other. `choose(n)` gives a number, of which the remainder by n is used.
pub fn check(mut choose: impl FnMut(usize) -> usize) {
    let mut choose = |n: usize| choose(n) % n;
    let (heads, patch_side) = (1 + choose(3), 1 + choose(4));
    let shape = Shape {
        image_side: patch_side * (1 + choose(5)),
        patch_side,
        channels: 1 + choose(3),
        embed: 16 * heads * (1 + choose(2)),
        heads,
        hidden: 16 * (1 + choose(5)),
        layers: 1 + choose(3),
        classes: 1 + choose(20),
        position_rows: 0,
        distilled: choose(2) == 1,
        dropout: 0.0,
    };
    let position_rows = if choose(2) == 1 { shape.tokens() } else { shape.patches() };
    let (shape, batch) = (Shape { position_rows, ..shape }, 1 + choose(10));
    let (images, parameters) = (noise(batch * shape.image_len(), 5), noise(shape.parameters(), 6));
    let parameters: Vec<f32> = parameters.iter().map(|x| x * 0.3).collect();
    let target = |weight| {
        let probabilities = vec![1.0 / shape.classes as f32; batch * shape.classes];
        HeadTarget { probabilities, weight, temperature: 1.5 }
    };
    let targets = [target(0.6), target(0.4)];
    let targets = &targets[..shape.prefix()];
    let options = ResolvedRollout {
        fusion: [Fusion::Mean, Fusion::Max, Fusion::Min][choose(3)],
        discard_ratio: 0.0,
        discard_per_row: false,
        compat: choose(2) == 1,
        layers: (choose(shape.layers)..shape.layers).collect(),
        query: choose(shape.tokens()),
    };
    let expected: Vec<_> = images
        .chunks(shape.image_len())
        .map(|image| transformer(&shape, &wide(&parameters), &wide(image), |_, _| 1.0))
        .collect();
    let logits: Vec<_> = expected.iter().map(|(heads, _)| heads.clone()).collect();
    let expected_rows: Vec<f64> =
        expected.iter().flat_map(|(_, maps)| rollout(maps, shape.heads, shape.tokens(), &options)).collect();
    let near = |ours: &[f32], expected: &[f64], tolerance: f64, what: &str| {
        // Terms that cancel leave the rounding errors of larger values.
        let largest = expected.iter().fold(tolerance.max(1e-3), |largest: f64, x| largest.max(x.abs()));
        assert_eq!(ours.len(), expected.len(), "{what} of {shape:?}");
        for (ours, expected) in ours.iter().zip(expected) {
            let apart = (f64::from(*ours) - expected).abs() / largest;
            assert!(apart < tolerance, "{what}: {ours} instead of {expected}, {shape:?}");
        }
    };
    let mut portable: Option<Vec<f64>> = None;
    let engine = || Transformer::new(shape, 2).unwrap();
    let levels = CpuLevel::available().map(|level| (engine().with_level(level).unwrap(), 1e-4, format!("{level:?}")));
    // Bfloat16 has three digits. Not every processor has its instructions.
    let bfloat16 = engine().with_precision(Precision::Bfloat16);
    let bfloat16 = bfloat16.and_then(|engine| engine.with_training_precision(Precision::Bfloat16));
    for (mut engine, tolerance, level) in levels.chain(bfloat16.ok().map(|engine| (engine, 0.1, "bfloat16".into()))) {
        engine.load(&parameters).unwrap();
        let step = engine.train(&images, targets, 0).unwrap();
        let apart = (step.loss - loss(&logits, targets)).abs();
        assert!(apart < tolerance * step.loss.abs() + 1e-6, "{level}: loss {apart:e} apart, {shape:?}");
        match &portable {
            Some(gradient) => near(step.gradient, gradient, tolerance, &format!("gradient, {level}")),
            None => portable = Some(wide(step.gradient)),
        }
        let (rows, heads) = engine.rollout(&images, &options).unwrap();
        near(&rows, &expected_rows, tolerance, &format!("rollout, {level}"));
        for (head, ours) in heads.iter().enumerate() {
            let expected: Vec<f64> = logits.iter().flat_map(|heads| heads[head].clone()).collect();
            near(ours, &expected, tolerance, &format!("logits, {level}"));
        }
    }
}
