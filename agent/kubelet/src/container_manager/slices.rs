//! Slices of the systemd driver: systemd owns the tree, so it has to make them and know their limits.
//!
//! A limit that only stood in the cgroup's file would be lost when systemd next realizes the unit.

use orlop_host::cgroup::Limits;
use tokio::process::Command;

/// systemd refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error("cannot run systemctl: {0}")]
    Run(#[source] std::io::Error),
    #[error("systemctl {verb} {unit} failed: {message}")]
    Failed { verb: &'static str, unit: String, message: String },
}

/// Makes the slice, and with it the slices that its name nests in.
pub(super) async fn start(unit: &str) -> Result<(), SliceError> {
    run("start", &["start", "--", unit], unit).await
}

/// Stops the slice, once it is empty.
pub(super) async fn stop(unit: &str) -> Result<(), SliceError> {
    run("stop", &["stop", "--no-block", "--", unit], unit).await
}

/// Tells systemd the limits, until the next boot.
pub(super) async fn limit(unit: &str, limits: &Limits) -> Result<(), SliceError> {
    let properties = properties(limits);
    if properties.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["set-property", "--runtime", "--", unit];
    arguments.extend(properties.iter().map(String::as_str));
    run("set-property", &arguments, unit).await
}

async fn run(verb: &'static str, arguments: &[&str], unit: &str) -> Result<(), SliceError> {
    let output =
        Command::new("systemctl").args(arguments).kill_on_drop(true).output().await.map_err(SliceError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SliceError::Failed { verb, unit: unit.to_owned(), message })
}

fn properties(limits: &Limits) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        list.push(format!("CPUWeight={}", super::cpu_weight(shares)));
    }
    if let Some(quota) = limits.cpu_quota_us {
        match limits.cpu_period_us {
            // systemd takes a percentage of one CPU and rounds to the period that it is given.
            Some(period) if quota > 0 && period > 0 => {
                let percent = i128::from(quota) * 100;
                let whole = (percent + i128::from(period) - 1) / i128::from(period);
                list.push(format!("CPUQuotaPeriodSec={period}us"));
                list.push(format!("CPUQuota={whole}%"));
            }
            _ => list.push("CPUQuota=".to_owned()),
        }
    }
    if let Some(bytes) = limits.memory_bytes {
        list.push(if bytes > 0 { format!("MemoryMax={bytes}") } else { "MemoryMax=infinity".to_owned() });
    }
    if let Some(pids) = limits.pids {
        list.push(if pids > 0 { format!("TasksMax={pids}") } else { "TasksMax=infinity".to_owned() });
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
            properties(&limits),
            ["CPUWeight=20", "CPUQuotaPeriodSec=100000us", "CPUQuota=15%", "MemoryMax=1024", "TasksMax=infinity"]
        );
        assert!(properties(&Limits::default()).is_empty());
    }
}
