//! The environment of a container: services, `envFrom`, `env` with all its references, `$(VAR)` expansion.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};
use orlop_api::quantity::Quantity;

use crate::container_manager;
use crate::objects::{ObjectError, ObjectManager};
use crate::pod::PodExt;

/// Why a container has no environment yet (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { kind: &'static str, namespace: String, name: String, key: String },
    #[error("fieldPath {0:?} is not supported")]
    Field(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("divisor {0:?} is not a quantity")]
    Divisor(String),
    #[error("env var {0}: fileKeyRef is not supported")]
    FileKey(String),
    #[error("services have not yet been read at least once, cannot construct envvars")]
    ServicesNotSynced,
}

/// What the environment is made from, beside the container.
#[derive(Debug)]
pub struct EnvContext<'a> {
    pub pod: &'a Pod,
    pub node_name: &'a str,
    pub host_ips: &'a [String],
    pub pod_ips: &'a [String],
    /// Services of the pod's namespace and `default/kubernetes`.
    pub services: &'a [Service],
    pub node_allocatable: &'a BTreeMap<String, i64>,
}

/// An ordered environment; a name set again keeps its first place and takes the new value.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    order: Vec<String>,
    values: HashMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().map(|name| (name.as_str(), self.values.get(name).map_or("", String::as_str)))
    }

    /// Replaces `$(NAME)`; `$$(NAME)` stays as `$(NAME)`, unknown names stay as they are.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('(') {
                let Some(end) = after.find(')') else {
                    out.push_str("$(");
                    rest = after;
                    continue;
                };
                let name = &after[..end];
                match self.values.get(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = &after[end + 1..];
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        out
    }
}

/// The environment of one container.
pub async fn resolve(
    context: &EnvContext<'_>,
    container: &Container,
    objects: &ObjectManager,
) -> Result<Environment, EnvError> {
    let namespace = context.pod.namespace_str();
    let mut env = Environment::default();
    for (name, value) in service_variables(context.services) {
        env.set(&name, value);
    }
    for source in container.env_from.as_deref().unwrap_or_default() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &source.config_map_ref {
            match objects.get_config_map(namespace, &wanted.name).await {
                Ok(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        env.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                Err(error) if error.is_not_found() && wanted.optional == Some(true) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(wanted) = &source.secret_ref {
            match objects.get_secret(namespace, &wanted.name).await {
                Ok(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        env.set(&format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                Err(error) if error.is_not_found() && wanted.optional == Some(true) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for variable in container.env.as_deref().unwrap_or_default() {
        match &variable.value_from {
            None => {
                let value = env.expand(variable.value.as_deref().unwrap_or_default());
                env.set(&variable.name, value);
            }
            Some(source) => {
                if let Some(value) = from_source(context, container, &variable.name, source, objects).await? {
                    env.set(&variable.name, value);
                }
            }
        }
    }
    Ok(env)
}

async fn from_source(
    context: &EnvContext<'_>,
    container: &Container,
    variable: &str,
    source: &EnvVarSource,
    objects: &ObjectManager,
) -> Result<Option<String>, EnvError> {
    let namespace = context.pod.namespace_str();
    if let Some(field) = &source.field_ref {
        return field_value(context, &field.field_path)
            .map(Some)
            .ok_or_else(|| EnvError::Field(field.field_path.clone()));
    }
    if let Some(resource) = &source.resource_field_ref {
        let named;
        let of = match resource.container_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => {
                named = context.pod.find_container(name).ok_or_else(|| EnvError::Container(name.to_owned()))?.1;
                &named
            }
            None => container,
        };
        let divisor = resource.divisor.as_ref().map(|q| q.0.as_str()).unwrap_or_default();
        return resource_value(of, &resource.resource, divisor, context.node_allocatable).map(Some);
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let optional = wanted.optional == Some(true);
        let missing = || EnvError::Key {
            kind: "ConfigMap",
            namespace: namespace.to_owned(),
            name: wanted.name.clone(),
            key: wanted.key.clone(),
        };
        return match objects.get_config_map(namespace, &wanted.name).await {
            Ok(map) => match map.data.as_ref().and_then(|data| data.get(&wanted.key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(missing()),
            },
            Err(error) if error.is_not_found() && optional => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    if let Some(wanted) = &source.secret_key_ref {
        let optional = wanted.optional == Some(true);
        let missing = || EnvError::Key {
            kind: "Secret",
            namespace: namespace.to_owned(),
            name: wanted.name.clone(),
            key: wanted.key.clone(),
        };
        return match objects.get_secret(namespace, &wanted.name).await {
            Ok(secret) => match secret.data.as_ref().and_then(|data| data.get(&wanted.key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(missing()),
            },
            Err(error) if error.is_not_found() && optional => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    if source.file_key_ref.is_some() {
        return Err(EnvError::FileKey(variable.to_owned()));
    }
    Ok(None)
}

/// The fields that `fieldRef` knows.
fn field_value(context: &EnvContext<'_>, path: &str) -> Option<String> {
    let pod = context.pod;
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels") {
        return Some(pod.metadata.labels.as_ref().and_then(|l| l.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations") {
        return Some(pod.annotation(key).unwrap_or_default().to_owned());
    }
    let spec = pod.spec.as_ref();
    Some(match path {
        "metadata.name" => pod.name_str().to_owned(),
        "metadata.namespace" => pod.namespace_str().to_owned(),
        "metadata.uid" => pod.uid_str().to_owned(),
        "spec.nodeName" => context.node_name.to_owned(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => context.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => context.host_ips.join(","),
        "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => context.pod_ips.join(","),
        _ => return None,
    })
}

/// `limits.cpu`, `requests.memory` and the like, in units of the divisor, rounded up. A container without a
/// limit of cpu or memory gets what the node can allocate.
pub(crate) fn resource_value(
    container: &Container,
    resource: &str,
    divisor: &str,
    node_allocatable: &BTreeMap<String, i64>,
) -> Result<String, EnvError> {
    let (side, name) = resource.split_once('.').ok_or_else(|| EnvError::Resource(resource.to_owned()))?;
    let resources = container.resources.as_ref();
    let list = match side {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(EnvError::Resource(resource.to_owned())),
    };
    let cpu = name == "cpu";
    let amount = match list.and_then(|list| list.get(name)) {
        Some(quantity) if cpu => container_manager::milli_value(quantity),
        Some(quantity) => container_manager::value(quantity),
        None if side == "limits" => node_allocatable.get(name).copied().unwrap_or(0),
        None => 0,
    };
    let divisor_text = if divisor.is_empty() || divisor == "0" { "1" } else { divisor };
    let divisor: Quantity = divisor_text.parse().map_err(|_| EnvError::Divisor(divisor_text.to_owned()))?;
    let per = if cpu { divisor.milli_value() } else { divisor.value() }.max(1);
    Ok((amount / per + i64::from(amount % per != 0)).to_string())
}

/// Docker-links style variables of services that have a cluster IP.
fn service_variables(services: &[Service]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        out.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
        out.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                out.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            if index == 0 {
                out.push((format!("{name}_PORT"), url.clone()));
            }
            out.push((prefix.clone(), url));
            out.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
            out.push((format!("{prefix}_PORT"), port.port.to_string()));
            out.push((format!("{prefix}_ADDR"), ip.to_owned()));
        }
    }
    out
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
