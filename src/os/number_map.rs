//! Maps and sets whose keys are numbers of the kernel: processes, devices, inodes.
//!
//! The hash function of the standard library takes more instructions than the rest of a look into a small table, because it is also safe for
//! keys that an attacker chooses. The kernel chooses these numbers, and the tables have at most as many entries as the
//! lock table.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map with numbers as keys.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// A set of numbers.
pub type NumberSet<K> = HashSet<K, BuildHasherDefault<NumberHasher>>;

/// Hashes numbers with one multiplication for each.
#[derive(Debug, Default, Clone, Copy)]
pub struct NumberHasher(u64);

/// An odd number without a pattern: the fractional part of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        // A table uses the lowest bits, and the multiplication mixes the highest ones best.
        self.0.rotate_left(30)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_usize(number.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn neighbouring_numbers_have_different_places_in_a_table() {
        let build = BuildHasherDefault::<NumberHasher>::default();
        for shift in [0, 3, 8, 16, 24, 32] {
            let places: NumberSet<u64> = (0..1024_u64).map(|number| build.hash_one(number << shift) % 1024).collect();
            assert!(places.len() > 550, "shifted by {shift}: {} places", places.len());
        }
    }
}
