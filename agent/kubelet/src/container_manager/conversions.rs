//! From Kubernetes' CPU units to the kernel's, exactly as upstream rounds them.

/// Kernel bounds of `cpu.shares`.
pub const MIN_SHARES: u64 = 2;
/// Kernel bounds of `cpu.shares`.
pub const MAX_SHARES: u64 = 262_144;
/// Default CFS period, µs.
pub const DEFAULT_QUOTA_PERIOD_US: u64 = 100_000;
/// The kernel takes no smaller quota, µs.
pub const MIN_QUOTA_US: i64 = 1_000;

/// `cpu.shares` of a request in milli-CPU. Zero means "no request": the least weight, not the kernel's default of 1024.
pub fn cpu_shares(milli_cpu: i64) -> u64 {
    let shares = i128::from(milli_cpu.max(0)) * 1024 / 1000;
    u64::try_from(shares).unwrap_or(MAX_SHARES).clamp(MIN_SHARES, MAX_SHARES)
}

/// CFS quota in µs of a limit in milli-CPU; zero when there is no limit.
pub fn cpu_quota(milli_cpu: i64, period_us: u64) -> i64 {
    if milli_cpu <= 0 {
        return 0;
    }
    let quota = i128::from(milli_cpu) * i128::from(period_us) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_QUOTA_US)
}

/// cgroup v2 `cpu.weight` for v1 shares (KEP-2254's linear map); zero stays zero: "not set".
pub fn cpu_weight(shares: u64) -> u64 {
    if shares == 0 {
        return 0;
    }
    let shares = shares.clamp(MIN_SHARES, MAX_SHARES);
    1 + ((shares - 2) * 9999) / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_table() {
        for (milli, want) in
            [(0, 2), (1, 2), (2, 2), (3, 3), (100, 102), (500, 512), (1000, 1024), (10_000_000, 262_144)]
        {
            assert_eq!(cpu_shares(milli), want, "{milli}m");
        }
    }

    #[test]
    fn quota_table() {
        for (milli, period, want) in [
            (0, 100_000, 0),
            (1, 100_000, 1000),
            (10, 100_000, 1000),
            (200, 100_000, 20_000),
            (1500, 100_000, 150_000),
            (1000, 5_000, 5_000),
        ] {
            assert_eq!(cpu_quota(milli, period), want, "{milli}m/{period}");
        }
    }

    #[test]
    fn weight_table() {
        for (shares, want) in [(0, 0), (2, 1), (512, 20), (1024, 39), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), want, "{shares}");
        }
    }

    proptest! {
        #[test]
        fn shares_and_weight_stay_in_the_kernels_bounds(milli in any::<i64>()) {
            let shares = cpu_shares(milli);
            prop_assert!((MIN_SHARES..=MAX_SHARES).contains(&shares));
            prop_assert!((1..=10_000).contains(&cpu_weight(shares)));
        }

        #[test]
        fn more_cpu_never_means_less(a in 0i64..10_000_000, b in 0i64..10_000_000) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(cpu_shares(low) <= cpu_shares(high));
            prop_assert!(cpu_quota(low, 100_000) <= cpu_quota(high, 100_000));
        }
    }
}
