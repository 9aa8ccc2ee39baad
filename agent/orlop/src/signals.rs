//! TERM and INT ask for a clean stop. A second one does not wait for it.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal: 128 + SIGTERM, as a shell reports it.
const IMPATIENT: i32 = 143;

/// Cancels the token that it returns at the first signal.
pub(crate) fn shutdown_token() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let asked = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if first {
                tracing::info!("stopping; Pods go on running");
                asked.cancel();
            } else {
                std::process::exit(IMPATIENT);
            }
        }
    });
    Ok(token)
}
