//! Medians, and their confidence intervals.

/// The distribution of some values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
    pub(crate) maximum: f64,
}

/// The median of some ratios, and its 95 % confidence interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Returns the distribution of at least one value.
pub(crate) fn describe_spread(values: &[f64]) -> Spread {
    let sorted = sort(values);
    Spread {
        minimum: sorted[0],
        p10: find_quantile(&sorted, 0.1),
        median: find_quantile(&sorted, 0.5),
        p90: find_quantile(&sorted, 0.9),
        maximum: sorted[sorted.len() - 1],
    }
}

/// Compares two sides round by round.
///
/// The confidence interval consists of ranks, so it makes no assumption on the distribution of the values. Fewer than six values
/// have no 95 % interval, and the result has the smallest and the largest of them.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
pub(crate) fn compare(ours: &[f64], theirs: &[f64]) -> Ratio {
    let sorted = sort(&ours.iter().zip(theirs).map(|(one, other)| one / other).collect::<Vec<_>>());
    let count = sorted.len() as f64;
    // The ranks follow from the normal approximation of the binomial distribution.
    let below = (count / 2.0 - 1.96 / 2.0 * count.sqrt()).floor().max(1.0) as usize - 1;
    Ratio { median: find_quantile(&sorted, 0.5), low: sorted[below], high: sorted[sorted.len() - 1 - below] }
}

fn sort(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns the quantile of sorted values, interpolated between the two nearest ones.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
fn find_quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
