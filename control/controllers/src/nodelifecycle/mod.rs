pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
