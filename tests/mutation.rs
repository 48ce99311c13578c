//! Random changes to bytes.

/// The SplitMix64 generator: the same mutations in every run.
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes `bytes` in one to eight places within `from..`. Few changes are more likely than many.
pub fn mutate(bytes: &mut Vec<u8>, from: usize, random: &mut SplitMix64) {
    let most = 1 + random.below(8);
    for _ in 0..=random.below(most) {
        let at = from + random.below(bytes.len().saturating_sub(from));
        let len = random.below(40).min(bytes.len() - at);
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'(', b'.', b'h'][random.below(8)],
            2 => bytes[at] = random.next() as u8,
            3 => {
                let numbers = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 62, u64::MAX];
                let number = numbers[random.below(7)].to_le_bytes();
                let end = (at + 4 + 4 * random.below(2)).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => drop(bytes.drain(at..at + len)),
            5 => {
                let piece = bytes[at..at + len].to_vec();
                let to = from + random.below(bytes.len() - from);
                bytes.splice(to..to, piece);
            }
            6 => {
                let piece = bytes[at..at + len].to_vec();
                let to = from + random.below(bytes.len() - len - from);
                bytes[to..to + len].copy_from_slice(&piece);
            }
            7 => {
                let digit = b"0123456789-"[random.below(11)];
                if let Some(found) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + found] = digit;
                }
            }
            _ if random.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
        if bytes.len() <= from {
            return;
        }
    }
}
