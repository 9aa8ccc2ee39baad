//! What a service manager is told (`Type=notify`): ready, stopping. Nothing where none asked.

use std::path::PathBuf;

use orlop_host::systemd::Notifier;

fn notifier() -> Option<Notifier> {
    let path = std::env::var_os("NOTIFY_SOCKET").filter(|p| !p.is_empty())?;
    Notifier::connect(&PathBuf::from(path))
        .inspect_err(|error| tracing::warn!(error = %error, "the socket of NOTIFY_SOCKET"))
        .ok()
}

pub(crate) fn ready(status: &str) {
    if let Some(notifier) = notifier() {
        let _ = notifier.ready(status);
    }
}

pub(crate) fn stopping() {
    if let Some(notifier) = notifier() {
        let _ = notifier.stopping();
    }
}
