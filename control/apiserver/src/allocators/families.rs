//! `ipFamilyPolicy` and `ipFamilies`: defaulted from each other, the ClusterIPs and the cluster
//! (upstream `initIPFamilyFields`).

use std::net::IpAddr;

use orlop_api::field::FieldError;
use orlop_api::status::Status;
use serde_json::{Value, json};

use super::addresses::family_of;
use super::{is_headless, service_type};
use crate::admission::fields::{list_at, name, str_at, strings_at};

const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";
const POLICY: &str = "spec.ipFamilyPolicy";

/// `configured`: the cluster's families, the primary first.
pub(super) fn init(service: &mut Value, old: Option<&Value>, configured: &[&str]) -> Result<(), Status> {
    if service_type(service) == "ExternalName" {
        return Ok(());
    }
    let selectorless = service.pointer("/spec/selector").and_then(Value::as_object).is_none_or(|s| s.is_empty());
    let headless_selectorless = is_headless(service) && selectorless;
    // A PreferDualStack Service neither gains nor loses an address because the cluster changed.
    if old.is_some_and(|o| prefers_unchanged(service, o)) {
        return Ok(());
    }
    let policy = policy(service, old, headless_selectorless);
    service["spec"]["ipFamilyPolicy"] = policy.clone().into();
    if policy == SINGLE
        && let Some(old) = old
    {
        downgrade(service, old);
    }
    let mut errors = count_errors(service, old, &policy);
    let mut families = inferred(service, configured, &mut errors);
    refuse(service, &errors)?;

    if !headless_selectorless {
        if policy == REQUIRE && configured.len() < 2 {
            errors.push(FieldError::invalid(
                POLICY,
                policy.as_str(),
                "this cluster is not configured for dual-stack services",
            ));
        }
        for (i, family) in families.iter().enumerate() {
            if !configured.contains(&family.as_str()) {
                let field = format!("spec.ipFamilies[{i}]");
                errors.push(FieldError::invalid(field, family.as_str(), "not configured on this cluster"));
            }
        }
        refuse(service, &errors)?;
    }
    if families.is_empty() {
        families.extend(configured.first().map(|f| (*f).to_owned()));
    }
    // A headless Service without selector may name both families on any cluster.
    let both = configured.len() == 2 || headless_selectorless;
    if policy != SINGLE && families.len() == 1 && both {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    service["spec"]["ipFamilies"] = json!(families);
    Ok(())
}

fn prefers_unchanged(service: &Value, old: &Value) -> bool {
    let same = |key: &str| service.pointer(key) == old.pointer(key);
    str_at(service, "/spec/ipFamilyPolicy") == "PreferDualStack"
        && service_type(old) != "ExternalName"
        && ["/spec/ipFamilyPolicy", "/spec/clusterIP", "/spec/clusterIPs", "/spec/ipFamilies"].iter().all(|k| same(k))
}

fn refuse(service: &Value, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("Service", "", name(service), errors)) }
}

fn policy(service: &Value, old: Option<&Value>, headless_selectorless: bool) -> String {
    let asked = str_at(service, "/spec/ipFamilyPolicy");
    let before = old.map(|o| str_at(o, "/spec/ipFamilyPolicy")).unwrap_or_default();
    let chosen = match (asked, before) {
        ("", "") if headless_selectorless => REQUIRE,
        ("", "") => SINGLE,
        ("", before) => before,
        (asked, _) => asked,
    };
    chosen.to_owned()
}

/// `SingleStack` on an unchanged dual-stack Service means: give up the secondary.
fn downgrade(service: &mut Value, old: &Value) {
    for key in ["clusterIPs", "ipFamilies"] {
        let pointer = format!("/spec/{key}");
        let same = service.pointer(&pointer) == old.pointer(&pointer);
        if same && let Some(list) = service.pointer_mut(&pointer).and_then(Value::as_array_mut) {
            list.truncate(1);
        }
    }
}

fn count_errors(service: &Value, old: Option<&Value>, policy: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let count = |v: &Value, key: &str| list_at(v, &format!("/spec/{key}")).len();
    for (key, what, reduced) in [
        ("clusterIPs", "cluster IPs", "must be 'SingleStack' to release the secondary cluster IP"),
        ("ipFamilies", "IP families", "must be 'SingleStack' to release the secondary IP family"),
    ] {
        if policy == SINGLE && count(service, key) == 2 {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(POLICY, policy, detail));
        }
        if policy != SINGLE && old.is_some_and(|o| count(o, key) == 2) && count(service, key) == 1 {
            errors.push(FieldError::invalid(POLICY, policy, reduced));
        }
    }
    errors
}

/// `ipFamilies`, completed from the asked ClusterIPs.
fn inferred(service: &Value, configured: &[&str], errors: &mut Vec<FieldError>) -> Vec<String> {
    let mut families = strings_at(service, "/spec/ipFamilies");
    let ips = strings_at(service, "/spec/clusterIPs");
    for (i, ip) in ips.iter().enumerate() {
        let Ok(parsed) = ip.parse::<IpAddr>() else {
            if ip != "None" {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), ip.as_str(), detail));
            }
            break;
        };
        let family = family_of(parsed);
        match families.get(i) {
            Some(named) if named != family => {
                let detail = format!("expected an {named} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), ip.as_str(), detail));
            }
            Some(_) => {}
            None if configured.contains(&family) => families.push(family.to_owned()),
            None => {
                let detail = format!("{family} is not configured on this cluster");
                errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), json!(ips), detail));
            }
        }
    }
    families
}
