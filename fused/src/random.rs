//! Random bits for dropout: sixteen streams side by side, one per lane of a vector register.

/// Number of streams: the lanes of the widest register. The bits are the same at every CPU level.
const LANES: usize = 16;

/// xoshiro128++ (Blackman and Vigna, arXiv 1805.01407), one generator per lane, seeded with SplitMix64.
pub(super) struct Random([[u32; LANES]; 4]);

impl Random {
    /// The stream of one dropout layer in one training step.
    pub fn new(seed: u64, layer: u64) -> Self {
        let mut state = seed ^ layer.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) as u32
        };
        Random(std::array::from_fn(|_| std::array::from_fn(|_| next())))
    }

    #[inline(always)]
    fn next(&mut self) -> [u32; LANES] {
        let [s0, s1, s2, s3] = &mut self.0;
        // Loops over arrays compile to the caller's vector instructions; closures are compiled without them.
        let mut result = [0; LANES];
        for i in 0..LANES {
            result[i] = s0[i].wrapping_add(s3[i]).rotate_left(7).wrapping_add(s0[i]);
            let t = s1[i] << 9;
            s2[i] ^= s0[i];
            s3[i] ^= s1[i];
            s1[i] ^= s2[i];
            s0[i] ^= s3[i];
            s2[i] ^= t;
            s3[i] = s3[i].rotate_left(11);
        }
        result
    }

    /// Dropout (arXiv 1207.0580): sets each value to 0 with probability `rate` and divides it by 1 − `rate` otherwise.
    /// A stream always drops the same positions, so the backward pass applies it to the gradient. The length of `x` is a
    /// multiple of 16.
    #[inline(always)]
    pub fn dropout(mut self, x: &mut [f32], rate: f64) {
        if rate == 0.0 {
            return;
        }
        let threshold = (rate * 4_294_967_296.0) as u32;
        let scale = (1.0 / (1.0 - rate)) as f32;
        for values in x.as_chunks_mut::<LANES>().0 {
            let bits = self.next();
            for (value, bits) in values.iter_mut().zip(bits) {
                *value *= if bits < threshold { 0.0 } else { scale };
            }
        }
    }

    /// The factors of a dropout layer for a batch [B, width]: each `part` images have a stream of their own.
    pub fn factors((seed, layer): (u64, u64), (batch, part, width): (usize, usize, usize), rate: f64) -> Vec<f32> {
        let mut factors = vec![1.0; batch * width];
        for (i, factors) in factors.chunks_mut(part * width).enumerate() {
            Random::new(seed.wrapping_add((i * part) as u64), layer).dropout(factors, rate);
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Factors of `n` values.
    fn factors(seed: u64, layer: u64, n: usize, rate: f64) -> Vec<f32> {
        let mut x = vec![1.0; n];
        Random::new(seed, layer).dropout(&mut x, rate);
        x
    }

    /// Correlation of two series of factors, which are zero or positive.
    fn correlation(a: &[f32], b: &[f32]) -> f64 {
        let share = |x: &[f32]| x.iter().filter(|x| **x > 0.0).count() as f64 / x.len() as f64;
        let both = a.iter().zip(b).filter(|(a, b)| **a > 0.0 && **b > 0.0).count() as f64 / a.len() as f64;
        let (p, q) = (share(a), share(b));
        (both - p * q) / (p * (1.0 - p) * q * (1.0 - q)).sqrt()
    }

    #[test]
    fn the_rate_is_what_was_asked_for() {
        const N: usize = 1 << 20;
        for rate in [0.05, 0.1, 0.5] {
            let x = factors(7, 3, N, rate);
            let dropped = x.iter().filter(|x| **x == 0.0).count() as f64 / N as f64;
            let deviation = (rate * (1.0 - rate) / N as f64).sqrt();
            assert!((dropped - rate).abs() < 5.0 * deviation, "rate {rate}: {dropped}");
            let rest = x.iter().find(|x| **x > 0.0).unwrap();
            assert_eq!(*rest, (1.0 / (1.0 - rate)) as f32);
        }
    }

    #[test]
    fn places_are_independent() {
        const N: usize = 1 << 18;
        let limit = 5.0 / (N as f64).sqrt();
        let x = factors(7, 3, N, 0.1);
        assert_eq!(x, factors(7, 3, N, 0.1));
        // Neighbours in a register, in the next registers and in the next rows; then other layers and other steps.
        for shift in [1, 2, 8, 16, 17, 64, 3200] {
            let r = correlation(&x[shift..], &x[..N - shift]);
            assert!(r.abs() < limit, "shift {shift}: {r}");
        }
        for other in [factors(7, 4, N, 0.1), factors(8, 3, N, 0.1), factors(6, 2, N, 0.1)] {
            let r = correlation(&x, &other);
            assert!(r.abs() < limit, "{r}");
        }
    }
}
