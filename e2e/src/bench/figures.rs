//! What is said of many measurements: medians, quantiles, ranges.

pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 50)
}

/// The value that `percent` of them do not exceed; not a number where there is none.
pub(super) fn quantile(values: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

/// `3.2 [2.9–4.0]`: the median, the least and the greatest.
pub(super) fn spread(values: &[f64], decimals: usize) -> String {
    let sorted = sorted(values.iter().copied());
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(greatest)) => {
            format!("{:.decimals$} [{least:.decimals$}–{greatest:.decimals$}]", median(sorted.iter().copied()))
        }
        _ => "none".to_owned(),
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_outliers() {
        assert!((median([1.0, 100.0, 2.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred = || (1..=100).map(f64::from);
        assert!((quantile(hundred(), 99) - 99.0).abs() < 1e-9);
        assert!((quantile(hundred(), 50) - 50.0).abs() < 1e-9);
        assert!((quantile([7.0], 99) - 7.0).abs() < 1e-9);
        assert!(quantile([], 50).is_nan());
    }

    #[test]
    fn a_spread_names_both_ends() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], 1), "2.0 [1.0–3.0]");
        assert_eq!(spread(&[], 1), "none");
    }
}
