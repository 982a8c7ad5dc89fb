//! Pseudo-random numbers, the same ones for the same seed: xorshift, with a state that splitmix mixes from the seed.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mixed = (seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// Returns a number from 0 up to but not including `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are more random than the low ones.
        (self.0 >> 11) % limit
    }

    /// Returns one of the choices.
    pub(crate) fn choose<'p, T>(&mut self, choices: &'p [T]) -> &'p T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// Returns `true` in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
