//! Slices of systemd, over D-Bus: where systemd owns the control groups, it has to make them and
//! know their limits. One that only stood in the group's file would be lost when systemd next
//! realizes the unit.
//!
//! The calls block on D-Bus; each runs on a thread for blocking work.

use cgroups_rs::systemd::{Property, SystemdClient};
use zbus::zvariant::OwnedObjectPath;

use crate::cgroup::Limits;

/// "No limit" in systemd's unsigned properties.
const INFINITY: u64 = u64::MAX;

/// systemd refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error("systemd: starting {unit}")]
    Start {
        unit: String,
        #[source]
        source: Box<zbus::Error>,
    },
    #[error("systemd: {action} {unit}: {detail}")]
    Unit { action: &'static str, unit: String, detail: String },
    #[error("systemd: the call for {unit} was cut")]
    Cut { unit: String },
}

/// Makes the slice, and with it the slices that its name nests in.
pub async fn start(unit: &str) -> Result<(), SliceError> {
    blocking(unit, |unit| {
        let call = || -> zbus::Result<OwnedObjectPath> {
            let manager = "org.freedesktop.systemd1.Manager";
            let reply = zbus::blocking::Connection::system()?.call_method(
                Some("org.freedesktop.systemd1"),
                "/org/freedesktop/systemd1",
                Some(manager),
                "StartUnit",
                &(unit, "replace"),
            )?;
            reply.body().deserialize()
        };
        call().map(drop).map_err(|source| SliceError::Start { unit: unit.to_owned(), source: Box::new(source) })
    })
    .await
}

/// Stops the slice, once it is empty; one that is not there is stopped.
pub async fn stop(unit: &str) -> Result<(), SliceError> {
    blocking(unit, |unit| client(unit)?.stop().map_err(|e| failed("stopping", unit, &e))).await
}

/// Tells systemd the limits, until the next boot. `unified` names them for cgroup v2.
pub async fn limit(unit: &str, limits: &Limits, cpu_weight: Option<u64>, unified: bool) -> Result<(), SliceError> {
    let properties = properties(limits, cpu_weight, unified);
    if properties.is_empty() {
        return Ok(());
    }
    blocking(unit, move |unit| {
        let values: Vec<Property<'static>> = properties.into_iter().map(|(name, value)| (name, value.into())).collect();
        client(unit)?.set_properties(&values).map_err(|e| failed("limiting", unit, &e))
    })
    .await
}

fn client(unit: &str) -> Result<SystemdClient<'static>, SliceError> {
    SystemdClient::new(unit, Vec::new()).map_err(|e| failed("naming", unit, &e))
}

fn failed(action: &'static str, unit: &str, error: &dyn std::fmt::Display) -> SliceError {
    SliceError::Unit { action, unit: unit.to_owned(), detail: error.to_string() }
}

async fn blocking(
    unit: &str,
    work: impl FnOnce(&str) -> Result<(), SliceError> + Send + 'static,
) -> Result<(), SliceError> {
    let owned = unit.to_owned();
    let task = tokio::task::spawn_blocking(move || work(&owned));
    task.await.unwrap_or_else(|_| Err(SliceError::Cut { unit: unit.to_owned() }))
}

/// systemd's names of the limits. A quota is told as CPU time per second, so nothing is rounded to a percentage.
fn properties(limits: &Limits, cpu_weight: Option<u64>, unified: bool) -> Vec<(&'static str, u64)> {
    let bound = |value: i64| u64::try_from(value).ok().filter(|v| *v > 0).unwrap_or(INFINITY);
    let mut list = Vec::new();
    if let Some(weight) = cpu_weight {
        list.push(if unified { ("CPUWeight", weight) } else { ("CPUShares", limits.cpu_shares.unwrap_or_default()) });
    }
    if let Some(quota) = limits.cpu_quota_us {
        let period = limits.cpu_period_us.filter(|p| *p > 0).unwrap_or(100_000);
        list.push(("CPUQuotaPeriodUSec", period));
        let per_second =
            u64::try_from(quota).ok().filter(|q| *q > 0).map_or(INFINITY, |q| q.saturating_mul(1_000_000) / period);
        list.push(("CPUQuotaPerSecUSec", per_second));
    }
    if let Some(bytes) = limits.memory_bytes {
        list.push((if unified { "MemoryMax" } else { "MemoryLimit" }, bound(bytes)));
    }
    if let Some(pids) = limits.pids {
        list.push(("TasksMax", bound(pids)));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_systemds_names() {
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota_us: Some(15_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(1024),
            pids: Some(-1),
            ..Limits::default()
        };
        assert_eq!(
            properties(&limits, Some(20), true),
            [
                ("CPUWeight", 20),
                ("CPUQuotaPeriodUSec", 100_000),
                ("CPUQuotaPerSecUSec", 150_000),
                ("MemoryMax", 1024),
                ("TasksMax", u64::MAX)
            ]
        );
        assert!(properties(&limits, Some(20), false).contains(&("CPUShares", 512)));
        assert!(properties(&Limits::default(), None, true).is_empty());
    }
}
