//! endpoints-controller: the old form of what EndpointSlices say, one Endpoints object per Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use crate::context::{Context, Requeue};
use crate::endpointslice::{on_pod_change, selector_of, selects, target_port};
use crate::error::{Result, api, is_already_exists, is_namespace_terminating, is_not_found};
use crate::expectations::Expectations;
use crate::informer::Key;
use crate::pods;
use crate::queue::Queue;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object; the rest is left out and said so.
const MAX_ADDRESSES: usize = 1000;

/// Ports as they are compared: name, number, protocol, application protocol.
type PortKey = Vec<(String, i32, String, Option<String>)>;

struct Controller {
    context: Arc<Context>,
    written: Expectations,
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let services = Arc::clone(&queue);
    informers.services.on_change(move |change| {
        if let Some(service) = change.latest() {
            services.add(Key::of(&**service));
        }
    });
    on_pod_change(&informers.pods, &informers.services, &queue);
    let of_endpoints = Arc::clone(&queue);
    informers.endpoints.on_change(move |change| {
        if let Some(endpoints) = change.latest() {
            of_endpoints.add(Key::of(&**endpoints));
        }
    });
    let controller = Arc::new(Controller { context: Arc::clone(context), written: Expectations::default() });
    let synced = Arc::clone(context);
    let ready = async move {
        synced.informers.services.synced().await;
        synced.informers.pods.synced().await;
        synced.informers.endpoints.synced().await;
    };
    context.spawn_workers("endpoints-controller", 5, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let informers = &self.context.informers;
        self.written.settled(key, &informers.endpoints).await?;
        let known = informers.endpoints.get(key);
        let objects: Api<Endpoints> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let Some(service) = informers.services.get(key) else {
            let ours = known.is_some_and(|e| e.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER));
            if ours {
                match objects.delete(&key.name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(error) if is_not_found(&error) => {}
                    Err(error) => return Err(api("deleting endpoints", key)(error)),
                }
            }
            return Ok(None);
        };
        if selector_of(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let pods = informers.pods.list_in(&key.namespace);
        let mine: Vec<&Pod> = pods.iter().filter(|pod| selects(&service, pod)).map(|pod| &**pod).collect();
        let wanted = endpoints(&service, &mine, known.as_deref());
        let result = match &known {
            Some(known) if same(known, &wanted) => return Ok(None),
            Some(_) => objects.replace(&key.name, &PostParams::default(), &wanted).await,
            None => objects.create(&PostParams::default(), &wanted).await,
        };
        match result {
            Ok(written) => self.written.wrote(key, &informers.endpoints, &written),
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => {}
            Err(error) => return Err(api("writing endpoints", key)(error)),
        }
        Ok(None)
    }
}

fn same(known: &Endpoints, wanted: &Endpoints) -> bool {
    known.subsets.clone().unwrap_or_default() == wanted.subsets.clone().unwrap_or_default()
        && known.labels() == wanted.labels()
        && known.annotations() == wanted.annotations()
}

/// The object that the Service should have; what others put on `known` stays.
fn endpoints(service: &Service, selected: &[&Pod], known: Option<&Endpoints>) -> Endpoints {
    let spec = service.spec.as_ref();
    let v6 = spec.and_then(|s| s.ip_families.as_ref()?.first()).is_some_and(|f| f == "IPv6");
    let publish = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let mut groups: BTreeMap<PortKey, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in selected {
        let leaving = pod.metadata.deletion_timestamp.is_some() && !publish;
        let Some(address) = address(service, pod, v6).filter(|_| !leaving && !pods::is_terminated(pod)) else {
            continue;
        };
        let Some(ports) = ports(service, pod) else { continue };
        let group = groups.entry(ports).or_default();
        if publish || pods::is_ready(pod) {
            group.0.push(address);
        } else {
            group.1.push(address);
        }
    }
    let total: usize = groups.values().map(|(ready, not)| ready.len() + not.len()).sum();
    truncate(&mut groups, total);
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut annotations = known.map(|k| k.annotations().clone()).unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if total > MAX_ADDRESSES {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    let subsets: Vec<EndpointSubset> = groups.into_iter().map(|(ports, group)| subset(ports, group)).collect();
    Endpoints {
        metadata: ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            ..known.map_or_else(
                || ObjectMeta {
                    name: service.metadata.name.clone(),
                    namespace: service.namespace(),
                    ..ObjectMeta::default()
                },
                |k| k.metadata.clone(),
            )
        },
        subsets: Some(subsets).filter(|s| !s.is_empty()),
    }
}

/// Ready addresses are the last to be left out.
fn truncate(groups: &mut BTreeMap<PortKey, (Vec<EndpointAddress>, Vec<EndpointAddress>)>, total: usize) {
    let mut surplus = total.saturating_sub(MAX_ADDRESSES);
    for (_, not_ready) in groups.values_mut() {
        let cut = surplus.min(not_ready.len());
        not_ready.truncate(not_ready.len() - cut);
        surplus -= cut;
    }
    for (ready, _) in groups.values_mut() {
        let cut = surplus.min(ready.len());
        ready.truncate(ready.len() - cut);
        surplus -= cut;
    }
    groups.retain(|_, (ready, not_ready)| !ready.is_empty() || !not_ready.is_empty());
}

fn subset(ports: PortKey, group: (Vec<EndpointAddress>, Vec<EndpointAddress>)) -> EndpointSubset {
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let ports: Vec<EndpointPort> = ports
        .into_iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name).filter(|n| !n.is_empty()),
            port,
            protocol: Some(protocol),
            app_protocol,
        })
        .collect();
    EndpointSubset {
        addresses: some(group.0),
        not_ready_addresses: some(group.1),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// The ports that the Pod answers, sorted; `None` where the Service has ports and the Pod none of them.
fn ports(service: &Service, pod: &Pod) -> Option<PortKey> {
    let wanted = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let mut ports: PortKey = wanted
        .iter()
        .filter_map(|port| {
            Some((
                port.name.clone().unwrap_or_default(),
                target_port(port, pod)?,
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port.app_protocol.clone(),
            ))
        })
        .collect();
    ports.sort_unstable();
    (wanted.is_empty() || !ports.is_empty()).then_some(ports)
}

fn address(service: &Service, pod: &Pod, v6: bool) -> Option<EndpointAddress> {
    let status = pod.status.as_ref()?;
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let ip = ips.chain(status.pod_ip.as_deref()).find(|ip| !ip.is_empty() && ip.contains(':') == v6)?;
    let spec = pod.spec.as_ref();
    let node = pods::node_name(pod);
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: spec
            .filter(|s| s.subdomain.as_deref() == service.metadata.name.as_deref())
            .and_then(|s| s.hostname.clone())
            .filter(|h| !h.is_empty()),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subsets() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"},
            "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}))
        .unwrap();
        let pod = |n: u32, port: i32, ready: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": format!("p{n}"), "namespace": "ns", "uid": format!("u{n}")},
                "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", n / 250, n % 250), "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        let told = |e: &Endpoints| -> Vec<String> {
            e.subsets
                .iter()
                .flatten()
                .map(|s| {
                    let ips = |a: &Option<Vec<EndpointAddress>>| {
                        a.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>().join(" ")
                    };
                    format!(
                        "{}: {} | {}",
                        s.ports.as_ref().unwrap()[0].port,
                        ips(&s.addresses),
                        ips(&s.not_ready_addresses)
                    )
                })
                .collect()
        };
        let pods = [pod(3, 8080, "True"), pod(1, 8080, "True"), pod(2, 8080, "False"), pod(4, 9090, "True")];
        let made = endpoints(&service, &pods.iter().collect::<Vec<_>>(), None);
        assert_eq!(told(&made), ["8080: 10.0.0.1 10.0.0.3 | 10.0.0.2", "9090: 10.0.0.4 | "]);
        assert_eq!(made.labels()[HEADLESS], "");
        assert!(same(&made, &endpoints(&service, &pods.iter().rev().collect::<Vec<_>>(), Some(&made))));
        assert_eq!(endpoints(&service, &[], None).subsets, None);

        let many: Vec<Pod> = (0..1001).map(|n| pod(n, 8080, if n == 5 { "False" } else { "True" })).collect();
        let cut = endpoints(&service, &many.iter().collect::<Vec<_>>(), None);
        assert_eq!(cut.annotations()[OVER_CAPACITY], "truncated");
        assert_eq!(cut.subsets.unwrap()[0].not_ready_addresses, None, "those that are not ready go first");
    }
}
