//! Numbers that look random, the same for the same seed (xorshift, begun by splitmix).

/// Numbers that look random.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mixed = (seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// One below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        (self.0 >> 11) % sides
    }

    /// One of these.
    pub(crate) fn pick<'p, T>(&mut self, among: &'p [T]) -> &'p T {
        &among[usize::try_from(self.roll(among.len() as u64)).unwrap()]
    }

    /// Whether one of a hundred sides below that many is up.
    pub(crate) fn percent(&mut self, sides: u64) -> bool {
        self.roll(100) < sides
    }
}
