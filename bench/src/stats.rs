//! Medians and percentiles of what was measured.

/// The value below which a share `q` of all values lies (nearest rank). Sorts.
///
/// # Panics
/// If there are none: a figure without a measurement is none.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The middle value; of an even number the mean of the two.
///
/// # Panics
/// As [`quantile`].
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// How ours compares with the peer's: the median of the ratios of rounds that were side by side. When others use the
/// machine too, two neighbours suffer alike, and two medians do not.
///
/// # Panics
/// As [`quantile`].
pub fn ratio(ours: &[f64], peers: &[f64]) -> f64 {
    median(&ours.iter().zip(peers).map(|(ours, peer)| ours / peer).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_those_of_the_textbook() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut hundred, 0.5), 50.0);
        assert_eq!(quantile(&mut hundred, 0.99), 99.0);
        assert_eq!(quantile(&mut hundred, 1.0), 100.0);
        assert_eq!(quantile(&mut [7.0], 0.01), 7.0);
        // The machine was half as fast in the second round.
        assert_eq!(ratio(&[80.0, 40.0, 75.0], &[100.0, 50.0, 100.0]), 0.8);
    }
}
