//! `default/kubernetes`: how Pods reach this API server.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use orlop_api::status::Status;
use serde_json::{Value, json};

use super::{BootstrapConfig, Wanted, ensure_all};
use crate::admission::fields::str_at;
use crate::allocators::ip_address_object;
use crate::reader::ObjectReader;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// ServiceCIDR, IPAddress, Service, Endpoints and EndpointSlice.
pub(super) async fn reconcile(reader: &Arc<dyn ObjectReader>, config: &BootstrapConfig) -> Result<(), Status> {
    let Some(primary) = config.service_cidrs.first() else { return Ok(()) };
    let cluster_ip = first_address(primary);
    drop_service_outside(reader, primary).await?;
    let mut wanted = vec![service_cidr(config)];
    if let Some(ip) = cluster_ip {
        wanted.push(Wanted {
            group: "networking.k8s.io",
            resource: "ipaddresses",
            object: ip_address_object(ip, NAMESPACE, NAME),
            owned: &["/spec/parentRef"],
        });
        wanted.push(service(ip, config));
    }
    wanted.push(endpoints(config));
    wanted.push(endpoint_slice(config));
    ensure_all(reader, wanted).await
}

/// The first address after the network's own.
pub(super) fn first_address(cidr: &IpNetwork) -> Option<IpAddr> {
    match cidr {
        IpNetwork::V4(v4) => u32::from(v4.network()).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpNetwork::V6(v6) => u128::from(v6.network()).checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

/// `clusterIP` can't change: after another `--service-cluster-ip-range` the Service is made anew.
async fn drop_service_outside(reader: &Arc<dyn ObjectReader>, primary: &IpNetwork) -> Result<(), Status> {
    let Some(live) = reader.get("", "services", Some(NAMESPACE), NAME) else { return Ok(()) };
    let ip = str_at(&live, "/spec/clusterIP");
    if ip.parse::<IpAddr>().is_ok_and(|ip| primary.contains(ip)) {
        return Ok(());
    }
    tracing::warn!(old = ip, range = %primary, "default/kubernetes is outside the service range and is made anew");
    for (group, resource, scope, object) in
        [("", "services", Some(NAMESPACE), NAME), ("networking.k8s.io", "ipaddresses", None, ip)]
    {
        match reader.delete(group, resource, scope, object).await {
            Err(e) if !e.is_not_found() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn service_cidr(config: &BootstrapConfig) -> Wanted {
    let cidrs: Vec<String> = config.service_cidrs.iter().map(ToString::to_string).collect();
    Wanted {
        group: "networking.k8s.io",
        resource: "servicecidrs",
        object: json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": NAME},
            "spec": {"cidrs": cidrs},
            "status": {"conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": jiff::Timestamp::UNIX_EPOCH.to_string(),
            }]},
        }),
        owned: &["/spec/cidrs"],
    }
}

fn port(config: &BootstrapConfig) -> Value {
    json!({"name": "https", "port": config.secure_port, "protocol": "TCP"})
}

fn service(ip: IpAddr, config: &BootstrapConfig) -> Wanted {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    Wanted {
        group: "",
        resource: "services",
        object: json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": ip.to_string(),
                "clusterIPs": [ip.to_string()],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}],
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        }),
        owned: &["/spec/ports", "/spec/type"],
    }
}

fn endpoints(config: &BootstrapConfig) -> Wanted {
    Wanted {
        group: "",
        resource: "endpoints",
        object: json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": [{"ip": config.advertise_address.to_string()}],
                "ports": [port(config)],
            }],
        }),
        owned: &["/subsets", "/metadata/labels"],
    }
}

fn endpoint_slice(config: &BootstrapConfig) -> Wanted {
    let family = if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" };
    Wanted {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        object: json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": NAME},
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [config.advertise_address.to_string()],
                "conditions": {"ready": true},
            }],
            "ports": [port(config)],
        }),
        owned: &["/endpoints", "/ports", "/metadata/labels"],
    }
}
