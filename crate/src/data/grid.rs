//! The pixels of a small picture that was enlarged.
//!
//! An enlarged picture is an interpolation of its first pixels: sampled at their centres and interpolated again, it
//! comes out as it is. With any other grid it doesn't. A photograph has no such grid.

/// How many new pixels long the garment may be: as long as the picture, or up to three less for faint edges or margins.
/// A blurred edge can make it look longer.
const LENGTHS: std::ops::RangeInclusive<i32> = -30..=12;
/// Share of the usual error of a wrong grid up to which a grid is right.
const RIGHT: f64 = 0.75;
/// Times the smallest error up to which grids are equally good. Few levels and straight edges fit several.
const AS_GOOD: f64 = 1.3;
/// Fractions of a pixel for which Lanczos' weights are computed.
const FRACTIONS: usize = 64;

/// Sums over the rows or the columns of a picture, and the range in which they aren't zero.
pub(super) struct Sums {
    pub values: Vec<f64>,
    pub start: usize,
    pub end: usize,
}

/// Side of a first pixel, and an edge between two of them across and down, in pixels of the enlarged picture.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub unit: f64,
    pub left: f64,
    pub top: f64,
    error: f64,
}

impl Sums {
    /// `None` if all are zero.
    pub fn new(values: Vec<f64>) -> Option<Sums> {
        let start = values.iter().position(|&sum| sum > 0.0)?;
        let end = values.iter().rposition(|&sum| sum > 0.0)? + 1;
        Some(Sums { values, start, end })
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The value at a place, linear between the pixels' centres, 0 outside.
    fn at(&self, place: f64) -> f64 {
        let place = place - 0.5;
        let index = place.floor();
        match self.values.get(index as usize..index as usize + 2) {
            Some(&[before, after]) if place >= 0.0 => before + (after - before) * (place - index),
            _ => 0.0,
        }
    }

    /// The best of `phases` edges for pixels of side `unit`: its place and the error.
    fn fitted(&self, unit: f64, phases: usize, margin: f64, weights: &[[f64; 6]]) -> (f64, f64) {
        let edges = (0..phases).map(|phase| self.start as f64 + unit * phase as f64 / phases as f64);
        let errors = edges.map(|edge| (edge, self.error(unit, edge, margin, weights)));
        errors.min_by(|a, b| a.1.total_cmp(&b.1)).expect("at least one phase")
    }

    /// The smallest mean difference, relative to the values, that nearest, linear, cubic or Lanczos interpolation leaves.
    fn error(&self, unit: f64, edge: f64, margin: f64, weights: &[[f64; 6]]) -> f64 {
        let margin = margin.min(self.len() as f64 / 4.0) as usize;
        let (from, to) = (self.start + margin, self.end - margin);
        let cell = |place: f64| (place - edge) / unit - 0.5;
        let first = cell(from as f64).floor() - 3.0;
        let count = (cell(to as f64) - first) as usize + 5;
        let samples: Vec<f64> = (0..count).map(|i| self.at(edge + (first + i as f64 + 0.5) * unit)).collect();
        let (mut errors, mut sum) = ([0.0; 4], 0.0);
        for at in (from..to).step_by((self.len() / 512).max(1)) {
            let place = cell(at as f64 + 0.5) - first;
            let (index, f) = (place as usize, place.fract());
            let Some(&[_, a, b, c, d, _]) = samples.get(index - 2..index + 4) else { continue };
            let around = &samples[index - 2..index + 4];
            let cubic = b + 0.5 * f * (c - a + f * (2.0 * a - 5.0 * b + 4.0 * c - d + f * (3.0 * (b - c) + d - a)));
            let lanczos = &weights[(f * FRACTIONS as f64) as usize];
            let lanczos = around.iter().zip(lanczos).map(|(value, weight)| value * weight).sum::<f64>();
            let models = [if f < 0.5 { b } else { c }, b + (c - b) * f, cubic, lanczos];
            errors.iter_mut().zip(models).for_each(|(error, model)| *error += (self.values[at] - model).abs());
            sum += self.values[at];
        }
        errors.into_iter().fold(f64::INFINITY, f64::min) / sum.max(1.0)
    }
}

impl Grid {
    /// The grid of a picture that was about `side` pixels long before it was enlarged. `None` for others.
    pub fn find(across: &Sums, down: &Sums, side: f64) -> Option<Grid> {
        let longer = across.len().max(down.len()) as f64;
        let (margin, weights) = (2.0 * longer / side, lanczos_weights());
        let fitted = |unit: f64, phases: usize| {
            let (left, wide) = across.fitted(unit, phases, margin, &weights);
            let (top, high) = down.fitted(unit, phases, margin, &weights);
            Grid { unit, left, top, error: wide + high }
        };
        let mut grids: Vec<Grid> = LENGTHS.map(|tenth| fitted(longer / (side + f64::from(tenth) / 10.0), 8)).collect();
        grids.sort_by(|a, b| a.error.total_cmp(&b.error));
        let (usual, least) = (grids[grids.len() / 2].error, grids[0].error);
        let as_good = grids.iter().filter(|grid| grid.error <= AS_GOOD * least + 1e-6);
        let distance = |grid: &&Grid| (grid.unit - longer / side).abs();
        let coarse = as_good.min_by(|a, b| distance(a).total_cmp(&distance(b)))?.unit;
        // From the middle outwards: the first of equal errors counts.
        let finer = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6]
            .into_iter()
            .map(|step| fitted(coarse * (1.0 + f64::from(step) * 0.0007), 32));
        let grid = finer.min_by(|a, b| a.error.total_cmp(&b.error))?;
        (grid.unit >= 2.0 && grid.error <= RIGHT * usual).then_some(grid)
    }
}

/// Lanczos' weights of the six pixels around a place, for each fraction of a pixel.
fn lanczos_weights() -> Vec<[f64; 6]> {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { x.sin() / x };
    let weight = |x: f64| sinc(std::f64::consts::PI * x) * sinc(std::f64::consts::PI * x / 3.0);
    let row = |fraction: usize| {
        let at = (fraction as f64 + 0.5) / FRACTIONS as f64;
        let weights = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0].map(|pixel| weight(at - pixel));
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    };
    (0..FRACTIONS).map(row).collect()
}
