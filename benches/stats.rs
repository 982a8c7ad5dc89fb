//! Medians, and how far they can be trusted.

/// How values are spread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
    pub(crate) maximum: f64,
}

/// A median, and between what it lies with 95 %.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Of values, of which there is one at least.
pub(crate) fn spread(values: &[f64]) -> Spread {
    let sorted = sorted(values);
    Spread {
        minimum: sorted[0],
        p10: at(&sorted, 0.1),
        median: at(&sorted, 0.5),
        p90: at(&sorted, 0.9),
        maximum: sorted[sorted.len() - 1],
    }
}

/// Of one side to another, round by round.
///
/// The interval is that of the ranks between which a median lies: it takes nothing for granted of how the values are
/// spread. Of fewer than six no interval is as sure as that, so it is all of them.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
    let sorted = sorted(&ours.iter().zip(theirs).map(|(one, other)| one / other).collect::<Vec<_>>());
    let count = sorted.len() as f64;
    // The ranks of the binomial distribution, by its normal approximation.
    let below = (count / 2.0 - 1.96 / 2.0 * count.sqrt()).floor().max(1.0) as usize - 1;
    Ratio { median: at(&sorted, 0.5), low: sorted[below], high: sorted[sorted.len() - 1 - below] }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which this part of them is; between two of them by its place.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
fn at(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
