//! The harness of the scenarios: a whole Orlop on real parts, in network namespaces of its own.
//!
//! ```text
//! namespace <id>-node                    namespace <id>-client
//!   orlop up, containerd, Pods             curl of NodePorts "from outside"
//!   eth0 10.<n>.0.2/24 ◄──── veth ────►    eth0 10.<n>.0.1/24
//! ```
//!
//! The only default route of the node leads into the client's namespace, so no packet leaves the
//! machine. Programs that shall see Services run in the stack's control group, below which the
//! dataplane is attached. Dropping a [`Stack`] purges it.
#![allow(
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a test says what it does, and panics when it fails"
)]

pub mod command;
pub mod namespaces;
pub mod stack;
pub mod wait;

pub use command::{Output, Sh};
pub use stack::{Kubectl, Stack, StackOptions};
pub use wait::eventually;

/// What a scenario needs from its surroundings; `None` (with the reason printed) where it can't run.
/// In CI nothing may be skipped.
#[must_use]
pub fn ready_or_skip(test: &str) -> Option<()> {
    let reason = if !nix::unistd::geteuid().is_root() {
        "needs root"
    } else if std::env::var_os("ORLOP_TEST_BIN").is_none() {
        "needs `cargo xtask test scenario`, which builds the program and names it in ORLOP_TEST_BIN"
    } else {
        return Some(());
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} was skipped in CI: {reason}");
    eprintln!("SKIP {test}: {reason}");
    None
}
