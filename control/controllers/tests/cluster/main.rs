//! The controllers on a real API server and scheduler, in one process; only the kubelet is played.

mod cluster;
mod collection;
mod rollout;
