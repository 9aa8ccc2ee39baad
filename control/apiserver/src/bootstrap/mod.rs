//! What every cluster holds from its first second: system namespaces, RBAC policy, priority
//! classes, the `kubernetes` Service. Reconciled at each start; what already equals is not written.

mod controller_policy;
mod kubernetes_service;
mod policy;
mod rbac;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ipnetwork::IpNetwork;
use orlop_api::status::Status;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::admission::fields::{name, namespace};
use crate::reader::ObjectReader;

pub(crate) use rbac::node_rules;

/// Writes at once; the store commits them in groups.
const PARALLEL_WRITES: usize = 64;
/// How often [`maintain`] looks whether something changed (a comparison of numbers).
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    pub service_cidrs: Vec<IpNetwork>,
    /// Where clients reach this server; becomes the endpoint of `default/kubernetes`.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    /// PEM of the client CA, for ConfigMap `extension-apiserver-authentication`.
    pub client_ca_pem: String,
    /// PEM of the front proxy CA, for the same.
    pub request_header_ca_pem: Option<String>,
    pub request_header_allowed_names: Vec<String>,
}

/// Writes all bootstrap objects. Returns once they are there; call before `readyz` says ok.
pub async fn run(
    reader: &Arc<dyn ObjectReader>,
    config: &BootstrapConfig,
    shutdown: &CancellationToken,
) -> Result<(), Status> {
    let work = async {
        ensure_all(reader, namespaces()).await?;
        rbac::reconcile(reader).await?;
        let mut objects = priority_classes();
        objects.push(authentication_config(config));
        ensure_all(reader, objects).await?;
        kubernetes_service::reconcile(reader, config).await
    };
    tokio::select! {
        done = work => done,
        () = shutdown.cancelled() => Err(Status::service_unavailable("the server is shutting down")),
    }
}

/// Keeps them there: aggregated ClusterRoles, the `kubernetes` Service and its endpoints.
pub async fn maintain(reader: Arc<dyn ObjectReader>, config: BootstrapConfig, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(MAINTAIN_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = revisions(reader.as_ref());
        if seen == Some(now) {
            continue;
        }
        let done = async {
            rbac::materialize_aggregation(&reader).await?;
            kubernetes_service::reconcile(&reader, &config).await
        };
        match done.await {
            // Own writes move the revisions: they are looked at once more, and then rest.
            Ok(()) => seen = Some(now),
            Err(error) => tracing::warn!(%error, "system objects could not be reconciled; trying again"),
        }
    }
}

fn revisions(reader: &dyn ObjectReader) -> [u64; 5] {
    [
        reader.revision("rbac.authorization.k8s.io", "clusterroles"),
        reader.revision("", "services"),
        reader.revision("", "endpoints"),
        reader.revision("discovery.k8s.io", "endpointslices"),
        reader.revision("networking.k8s.io", "servicecidrs"),
    ]
}

/// One wanted object: which fields are ours, the rest of a live object is left as it stands.
pub(crate) struct Wanted {
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) object: Value,
    /// JSON pointers of the fields that are put back when they differ.
    pub(crate) owned: &'static [&'static str],
}

/// Creates what is missing and puts owned fields back, many at once.
pub(crate) async fn ensure_all(reader: &Arc<dyn ObjectReader>, objects: Vec<Wanted>) -> Result<(), Status> {
    stream::iter(objects.into_iter().map(Ok))
        .try_for_each_concurrent(PARALLEL_WRITES, |wanted| ensure(reader, wanted))
        .await
}

async fn ensure(reader: &Arc<dyn ObjectReader>, wanted: Wanted) -> Result<(), Status> {
    let Wanted { group, resource, object, owned } = wanted;
    let scope = namespace(&object).to_owned();
    let scope = (!scope.is_empty()).then_some(scope);
    let object_name = name(&object).to_owned();
    // A concurrent writer is somebody's kubectl at most: three rounds see its end.
    for _ in 0..3 {
        let Some(live) = reader.get(group, resource, scope.as_deref(), &object_name) else {
            match reader.create(group, resource, object.clone()).await {
                Err(e) if e.is_already_exists() => continue,
                done => return done.map(|_| ()),
            }
        };
        let mut next = Value::clone(&live);
        for pointer in owned {
            if let Some(value) = object.pointer(pointer)
                && live.pointer(pointer) != Some(value)
            {
                set(&mut next, pointer, value.clone());
            }
        }
        if next == *live {
            return Ok(());
        }
        match reader.update(group, resource, next).await {
            Err(e) if e.is_conflict() || e.is_not_found() => continue,
            done => return done.map(|_| ()),
        }
    }
    Err(Status::conflict((group, resource), &object_name))
}

/// Sets the field at a JSON pointer, making objects on the way.
pub(crate) fn set(target: &mut Value, pointer: &str, value: Value) {
    let mut at = target;
    for part in pointer.trim_start_matches('/').split('/') {
        let key = part.replace("~1", "/").replace("~0", "~");
        if !at.is_object() {
            *at = json!({});
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(key).or_insert(Value::Null);
    }
    *at = value;
}

fn namespaces() -> Vec<Wanted> {
    ["default", "kube-system", "kube-public", "kube-node-lease"]
        .map(|ns| Wanted {
            group: "",
            resource: "namespaces",
            object: json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": ns, "labels": {"kubernetes.io/metadata.name": ns}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }),
            owned: &[],
        })
        .into()
}

fn priority_classes() -> Vec<Wanted> {
    const OWNED: &[&str] = &["/value"];
    let class = |name: &str, value: i64, description: &str| Wanted {
        group: "scheduling.k8s.io",
        resource: "priorityclasses",
        object: json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }),
        owned: OWNED,
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// From which aggregated API servers learn whom to trust.
fn authentication_config(config: &BootstrapConfig) -> Wanted {
    let mut data = json!({"client-ca-file": config.client_ca_pem});
    if let Some(ca) = &config.request_header_ca_pem {
        data["requestheader-client-ca-file"] = ca.clone().into();
        data["requestheader-allowed-names"] = json!(config.request_header_allowed_names).to_string().into();
        for (key, header) in [
            ("extra-headers-prefix", "X-Remote-Extra-"),
            ("group-headers", "X-Remote-Group"),
            ("uid-headers", "X-Remote-Uid"),
            ("username-headers", "X-Remote-User"),
        ] {
            data[format!("requestheader-{key}")] = json!([header]).to_string().into();
        }
    }
    Wanted {
        group: "",
        resource: "configmaps",
        object: json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": data,
        }),
        owned: &["/data"],
    }
}

/// Runs `f` over `items`, many at once, until the first failure.
async fn each<T, F, Fut>(items: Vec<T>, f: F) -> Result<(), Status>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), Status>>,
{
    stream::iter(items).map(Ok).try_for_each_concurrent(PARALLEL_WRITES, f).await
}

#[cfg(test)]
mod tests;
