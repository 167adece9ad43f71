//! How sure a share is of which so many were seen.

/// Confidence of the upper bounds that tables print.
const CONFIDENCE: f64 = 0.95;

/// Least share that is excluded with 95 % confidence when `seen` of `all` were seen: the one-sided bound of Clopper and Pearson (1934). For
/// 0 seen that is 1 - 0.05^(1/n), about 3/n.
pub fn at_most(seen: u64, all: u64) -> f64 {
    if seen >= all {
        return 1.0;
    }
    // The share under which as few as `seen` come about one time in twenty: P(X <= seen) falls as the share grows.
    let (mut low, mut high) = (seen as f64 / all as f64, 1.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if cumulative(seen, all, middle) > 1.0 - CONFIDENCE { low = middle } else { high = middle }
    }
    high
}

/// P(X <= seen) of a binomial distribution, by its recurrence downwards from `seen`: the terms fall, since `share` is above seen / all.
fn cumulative(seen: u64, all: u64, share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return if share <= 0.0 { 1.0 } else { 0.0 };
    }
    let (n, k) = (all as f64, seen as f64);
    let choose = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    let mut term = libm::exp(choose + k * libm::log(share) + (n - k) * libm::log1p(-share));
    let (mut sum, mut at) = (term, k);
    while at > 0.0 && term > sum * 1e-17 {
        term *= at / (n - at + 1.0) * (1.0 - share) / share;
        sum += term;
        at -= 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_books() {
        // 1 - 0.05^(1/n); qbeta(0.95, k + 1, n - k) for k = 1, 5, 50.
        for (seen, all, bound) in [
            (0, 10, 0.258_865_6),
            (0, 1_000_000, 2.995_728e-6),
            (1, 10, 0.394_163_3),
            (5, 100, 0.102_253),
            (50, 1_000, 0.062_863_4),
            (10, 10, 1.0),
            (0, 0, 1.0),
        ] {
            let found = at_most(seen, all);
            assert!((found / bound - 1.0).abs() < 1e-5, "{seen} of {all}: {found}, not {bound}");
        }
    }

    #[test]
    fn one_sample_in_twenty_is_as_small_under_the_bound() {
        // Summed the plain way, from 0 on.
        for (seen, all) in [(0u64, 50u64), (3, 50), (20, 50), (49, 50)] {
            let bound = at_most(seen, all);
            let mut probability = (1.0 - bound).powi(all as i32);
            let mut sum = probability;
            for k in 0..seen {
                probability *= (all - k) as f64 / (k + 1) as f64 * bound / (1.0 - bound);
                sum += probability;
            }
            assert!((sum - 0.05).abs() < 1e-9, "{seen} of {all}: {sum}");
        }
    }
}
