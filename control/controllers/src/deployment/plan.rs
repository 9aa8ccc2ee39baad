//! How many replicas each ReplicaSet of a Deployment should have next. Pure; the numbers are upstream's.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One ReplicaSet as the decisions see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    pub(super) name: String,
    /// `spec.replicas`.
    pub(super) replicas: i32,
    /// `status.replicas` and `status.availableReplicas`.
    pub(super) current: i32,
    pub(super) available: i32,
    pub(super) created: Option<Timestamp>,
    /// Annotations `deployment.kubernetes.io/desired-replicas` and `max-replicas`.
    pub(super) desired_noted: Option<i32>,
    pub(super) max_noted: Option<i32>,
}

/// What the Deployment asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Want {
    pub(super) replicas: i32,
    pub(super) recreate: bool,
    pub(super) max_surge: i32,
    pub(super) max_unavailable: i32,
}

/// Sets one ReplicaSet to a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) name: String,
    pub(super) to: i32,
}

impl Scale {
    fn of(set: &Set, to: i32) -> Self {
        Self { name: set.name.clone(), to: to.max(0) }
    }
}

/// A number, or a percentage of `total`; what can't be read counts as 0.
fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
            let scaled = i64::from(total) * percent;
            let whole = if round_up { (scaled + 99).div_euclid(100) } else { scaled.div_euclid(100) };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// Surge is rounded up, unavailable down; where both come out as 0 one may be unavailable, or
/// nothing could ever move.
pub(super) fn fenceposts(
    max_surge: Option<&IntOrString>,
    max_unavailable: Option<&IntOrString>,
    replicas: i32,
) -> (i32, i32) {
    let surge = resolve(max_surge, replicas, true);
    let unavailable = resolve(max_unavailable, replicas, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

impl Want {
    /// Upstream's `MaxUnavailable`: never more than there are, and none while recreating.
    pub(super) fn unavailable(&self) -> i32 {
        if self.recreate || self.replicas == 0 { 0 } else { self.max_unavailable.min(self.replicas) }
    }

    pub(super) fn surge(&self) -> i32 {
        if self.recreate { 0 } else { self.max_surge }
    }

    /// The most Pods there may be; noted on every set for proportional scaling.
    pub(super) fn max_total(&self) -> i32 {
        self.replicas + self.surge()
    }
}

fn total(sets: &[&Set]) -> i32 {
    sets.iter().map(|set| set.replicas).sum()
}

/// Replicas of the new set that fit beside the old ones.
pub(super) fn new_replicas(want: &Want, new: i32, all: i32) -> i32 {
    if want.recreate {
        return want.replicas;
    }
    if all >= want.max_total() {
        return new;
    }
    new + (want.max_total() - all).min(want.replicas - new)
}

/// One step of a rolling update: first the new set, and once it can't grow the old ones.
pub(super) fn rolling(want: &Want, new: &Set, old: &[Set]) -> Vec<Scale> {
    let all: i32 = new.replicas + total(&old.iter().collect::<Vec<_>>());
    let to = if new.replicas > want.replicas { want.replicas } else { new_replicas(want, new.replicas, all) };
    if to != new.replicas {
        return vec![Scale::of(new, to)];
    }
    if all == new.replicas {
        return Vec::new();
    }
    let min_available = want.replicas - want.unavailable();
    let new_unavailable = new.replicas - new.available;
    let may_go = all - min_available - new_unavailable;
    if may_go <= 0 {
        return Vec::new();
    }
    let mut sets = old.to_vec();
    sets.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    let mut scales = Vec::new();
    take_unhealthy(&mut sets, may_go, &mut scales);
    take_available(want, new, &mut sets, min_available, &mut scales);
    scales
}

/// Replicas that don't serve anyway go first.
fn take_unhealthy(sets: &mut [Set], may_go: i32, scales: &mut Vec<Scale>) {
    let mut gone = 0;
    for set in sets {
        let unhealthy = (set.replicas - set.available).min(may_go - gone);
        if set.replicas == 0 || unhealthy <= 0 {
            continue;
        }
        gone += unhealthy;
        set.replicas -= unhealthy;
        scales.push(Scale::of(set, set.replicas));
    }
}

fn take_available(want: &Want, new: &Set, sets: &mut [Set], min_available: i32, scales: &mut Vec<Scale>) {
    let available: i32 = new.available + sets.iter().map(|set| set.available).sum::<i32>();
    debug_assert!(want.replicas >= min_available);
    let mut left = available - min_available;
    for set in sets {
        let count = set.replicas.min(left);
        if count <= 0 {
            continue;
        }
        left -= count;
        set.replicas -= count;
        scales.retain(|scale| scale.name != set.name);
        scales.push(Scale::of(set, set.replicas));
    }
}

/// Brings the sets to a changed `spec.replicas` (or to what a paused Deployment asks for), each in
/// proportion to its size.
pub(super) fn scale(want: &Want, new: Option<&Set>, old: &[Set]) -> Vec<Scale> {
    let active: Vec<&Set> = old.iter().chain(new).filter(|set| set.replicas > 0).collect();
    if active.len() <= 1 {
        let newest_old = || old.iter().max_by(|a, b| a.created.cmp(&b.created));
        let only = active.first().copied().or(new).or_else(newest_old);
        return match only {
            Some(set) if set.replicas != want.replicas => vec![Scale::of(set, want.replicas)],
            _ => Vec::new(),
        };
    }
    let saturated = new.is_some_and(|set| {
        set.replicas == want.replicas && set.desired_noted == Some(want.replicas) && set.available == want.replicas
    });
    if saturated {
        return old.iter().filter(|set| set.replicas > 0).map(|set| Scale::of(set, 0)).collect();
    }
    if want.recreate {
        return Vec::new();
    }
    proportional(want, active)
}

fn proportional(want: &Want, mut sets: Vec<&Set>) -> Vec<Scale> {
    let allowed = if want.replicas > 0 { want.max_total() } else { 0 };
    let to_add = allowed - total(&sets);
    // The largest set first; of equal ones the newer gains and the older loses.
    sets.sort_by(|a, b| {
        let by_age = if to_add > 0 { b.created.cmp(&a.created) } else { a.created.cmp(&b.created) };
        b.replicas.cmp(&a.replicas).then(by_age)
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in &sets {
        let share = if to_add == 0 { 0 } else { proportion(want, set, to_add, added) };
        sizes.push(set.replicas + share);
        added += share;
    }
    if to_add != 0
        && let Some(largest) = sizes.first_mut()
    {
        // What rounding left over.
        *largest = (*largest + to_add - added).max(0);
    }
    sets.iter()
        .zip(sizes)
        .filter(|(set, size)| {
            set.replicas != *size || set.desired_noted != Some(want.replicas) || set.max_noted != Some(want.max_total())
        })
        .map(|(set, size)| Scale::of(set, size))
        .collect()
}

fn proportion(want: &Want, set: &Set, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == added {
        return 0;
    }
    let share = if want.replicas == 0 {
        -set.replicas
    } else {
        let before = set.max_noted.filter(|max| *max > 0).unwrap_or_else(|| set.current.max(1));
        let size = i64::from(set.replicas) * i64::from(want.max_total());
        let before = i64::from(before);
        // Rounded to the nearest.
        let size = (2 * size + before).div_euclid(2 * before);
        i32::try_from(size).unwrap_or(i32::MAX) - set.replicas
    };
    let left = to_add - added;
    if to_add > 0 { share.min(left) } else { share.max(left) }
}
