//! The checksum in the last line of a registry.

/// Returns a checksum that detects a change of a few bytes, and of the length. It works on four lanes of eight bytes
/// each, because every call reads the whole registry, which may be large.
pub(super) fn compute_checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |lane: u64, word: &[u8]| {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        (lane.rotate_left(23) ^ u64::from_le_bytes(padded)).wrapping_mul(PRIME)
    };
    let mut lanes = [1, 2, 3, 4_u64];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            *lane = mix(*lane, word);
        }
    }
    for (lane, word) in lanes.iter_mut().zip(chunks.remainder().chunks(8)) {
        *lane = mix(*lane, word);
    }
    let total = lanes.iter().fold(bytes.len() as u64, |total, lane| mix(total ^ (total >> 29), &lane.to_le_bytes()));
    total ^ (total >> 32)
}
