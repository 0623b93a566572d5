//! Chance, inputs changed by it, and inputs made small.

/// SplitMix64: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Of `0..end`; `end` is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Mostly small, so that numbers meet; sometimes at an end.
    pub fn odd_number(&mut self) -> u64 {
        match self.below(20) {
            0 => u64::MAX - self.below(3),
            1 => i64::MAX as u64 - 1 + self.below(3),
            2 => u64::from(u32::MAX) - 1 + self.below(3),
            3 => self.number(),
            _ => self.below(6),
        }
    }
}

/// Changes at most so many places.
const CHANGES_MAX: u64 = 4;

/// The input as it is in a quarter of cases, else with a few changes.
pub fn mutated(mut input: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.below(4) == 0 {
        return input;
    }
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(input.len() as u64 + 1) as usize;
        let length = (random.below(9) as usize).min(input.len() - at);
        match random.below(6) {
            0 => drop(input.drain(at..at + length)),
            1 => {
                let copy = input[at..at + length].to_vec();
                let to = random.below(input.len() as u64 + 1) as usize;
                input.splice(to..to, copy);
            }
            2 => {
                let number = random.odd_number().to_le_bytes();
                input[at..at + length]
                    .iter_mut()
                    .zip(number)
                    .for_each(|(byte, with)| *byte = with);
            }
            3 => input.truncate(at),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input
}

/// Leaves out what can be left out while `breaks` stays true: halves first, then single bytes.
pub fn shrunk(mut input: Vec<u8>, breaks: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut length = input.len();
    while length > 0 {
        let mut end = input.len();
        while end > 0 {
            let from = end.saturating_sub(length);
            let mut smaller = input.clone();
            smaller.drain(from..end);
            if breaks(&smaller) {
                input = smaller;
            }
            end = from.min(input.len());
        }
        length /= 2;
    }
    input
}
