//! What tests of several crates share: saying why a test could not run here.

/// Says why a test did not run; a failure in CI, where nothing may be skipped.
#[allow(clippy::print_stderr, reason = "a test's own report")]
pub fn skip(what: &str, reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} was skipped in CI: {reason}");
    eprintln!("SKIP {what}: {reason}");
}
