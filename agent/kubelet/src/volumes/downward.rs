//! The downward API: a pod's own metadata and resources as text. Environment variables use it too.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::container_manager::{milli_value, value};

/// What stands in for a container's missing limits: the node's allocatable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeAllocatable {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
}

/// The text of a field of the pod's metadata; the error names the field.
pub fn field_value(pod: &Pod, field_path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    if let Some((map, key)) = subscript(field_path) {
        let entries = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("fieldPath {field_path:?} does not support subscript")),
        };
        return Ok(entries.and_then(|e| e.get(key)).cloned().unwrap_or_default());
    }
    match field_path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => Ok(format_map(meta.labels.as_ref())),
        "metadata.annotations" => Ok(format_map(meta.annotations.as_ref())),
        _ => Err(format!("unsupported fieldPath: {field_path}")),
    }
}

/// The container's resource in units of the divisor, rounded up; limits that it lacks are the node's.
pub fn resource_value(
    pod: &Pod,
    default_container: Option<&str>,
    selector: &ResourceFieldSelector,
    node: NodeAllocatable,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).or(default_container).unwrap_or_default();
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let container = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|c| c.name == name)
        .ok_or_else(|| format!("container {name} not found"))?;
    let (side, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let in_milli = resource == "cpu";
    let amount = match side {
        "limits" => amount(container, true, resource).filter(|a| *a > 0).or(match resource {
            "cpu" => Some(node.milli_cpu),
            "memory" => Some(node.memory_bytes),
            "ephemeral-storage" => Some(node.ephemeral_storage_bytes),
            _ => None,
        }),
        "requests" => amount(container, false, resource),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !known {
        return Err(format!("unsupported container resource : {}", selector.resource));
    }
    let divisor = selector.divisor.as_ref().map(|d| if in_milli { milli_value(d) } else { value(d) });
    let divisor = divisor.filter(|d| *d > 0).unwrap_or(if in_milli { 1000 } else { 1 });
    let amount = amount.unwrap_or(0).max(0);
    // Rounded up without overflow, as upstream's math.Ceil does.
    Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
}

fn amount(container: &Container, limits: bool, resource: &str) -> Option<i64> {
    let resources = container.resources.as_ref()?;
    let list = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() }?;
    let quantity = list.get(resource)?;
    Some(if resource == "cpu" { milli_value(quantity) } else { value(quantity) })
}

/// `metadata.labels['key']` to its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// One `key="value"` line per entry in order of keys, quoted as Go quotes.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect();
    lines.join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c < ' ') || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "labels": { "b": "2", "a": "x\"y\n" }, "annotations": { "example.com/k": "v" },
            },
            "spec": { "containers": [
                { "name": "c", "resources": { "limits": { "cpu": "250m", "memory": "64Mi" }, "requests": { "memory": "1" } } },
                { "name": "open" },
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        for (path, want) in [
            ("metadata.name", Ok("p")),
            ("metadata.namespace", Ok("n")),
            ("metadata.labels", Ok("a=\"x\\\"y\\n\"\nb=\"2\"")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['example.com/k']", Ok("v")),
            ("spec.nodeName", Err("unsupported fieldPath: spec.nodeName")),
            ("spec['x']", Err("fieldPath \"spec['x']\" does not support subscript")),
        ] {
            assert_eq!(field_value(&pod(), path).as_deref().map_err(String::as_str), want, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let node = NodeAllocatable { milli_cpu: 4000, memory_bytes: 1 << 30, ephemeral_storage_bytes: 7 };
        let check = |container: &str, resource: &str, divisor: Option<&str>, want: &str| {
            let selector: ResourceFieldSelector = serde_json::from_value(
                json!({ "containerName": container, "resource": resource, "divisor": divisor.unwrap_or("0") }),
            )
            .unwrap();
            assert_eq!(resource_value(&pod(), None, &selector, node).unwrap(), want, "{container} {resource}");
        };
        check("c", "limits.cpu", None, "1");
        check("c", "limits.cpu", Some("1m"), "250");
        check("c", "limits.memory", Some("1Mi"), "64");
        check("c", "requests.memory", Some("1Mi"), "1");
        check("c", "requests.cpu", None, "0");
        check("open", "limits.cpu", None, "4");
        check("open", "limits.memory", None, "1073741824");
        check("open", "limits.ephemeral-storage", None, "7");
    }
}
