//! An API server on a memory store, for trying clients by hand:
//! `cargo run -p orlop-apiserver --example serve -- /tmp/kubeconfig`, then `kubectl --kubeconfig /tmp/kubeconfig …`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program to try things out")]

#[path = "../tests/api/support.rs"]
mod support;

#[tokio::main]
async fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "kubeconfig".to_owned());
    let started = tokio::time::Instant::now();
    let server = support::TestServer::start().await;
    std::fs::write(&path, server.kubeconfig()).unwrap();
    println!("ready in {:?} at https://{}, kubeconfig in {path}", started.elapsed(), server.server.local_addr());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    server.stop().await;
}
