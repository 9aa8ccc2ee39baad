//! ResourceQuota: no write takes a namespace over what a quota allows.
//!
//! Usage is counted from the stored objects at the moment of the write, not from `status.used`. A
//! write that passed is remembered until its object shows up, so that writes at the same moment
//! don't pass together.

mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orlop_api::quantity::Quantity;
use orlop_api::status::Status;
use serde_json::Value;
use tokio::time::Instant;

use super::fields::{name, str_at};
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::reader::{Object, ObjectReader};
use usage::{Usage, covers, missing_constraints, scopes_match};

/// A write that passed and whose object did not show up within this has failed.
const PENDING: Duration = Duration::from_secs(3);
/// Writes remembered; beyond it the oldest are forgotten first.
const MAX_PENDING: usize = 4096;

struct Passed {
    group: &'static str,
    resource: &'static str,
    namespace: String,
    object: Value,
    until: Instant,
}

pub(super) struct ResourceQuota {
    reader: Arc<dyn ObjectReader>,
    passed: Mutex<Vec<Passed>>,
}

impl ResourceQuota {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader, passed: Mutex::default() }
    }

    fn check(&self, request: &AdmissionRequest<'_>, quotas: &[Object]) -> Result<(), Status> {
        let (Some(new), Some(ns)) = (request.new_object(), request.namespace) else { return Ok(()) };
        let (group, resource) = (request.resource.group, request.resource.plural);
        // Counting and remembering are one step: the lock is held over both.
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_settled(&mut passed);
        let wanted = usage::of(group, resource, new);
        let before = request.old_object.map(|o| usage::of(group, resource, o)).unwrap_or_default();
        for quota in quotas.iter().filter(|q| scopes_match(q, resource, new)) {
            let hard = hard(quota);
            if request.operation == Operation::Create && resource == "pods" {
                let missing = missing_constraints(new, hard.keys());
                if !missing.is_empty() {
                    return Err(request.forbid(format!("failed quota: {}: {}", name(quota), missing.join("; "))));
                }
            }
            let asked: Usage = wanted
                .iter()
                .filter(|(key, _)| hard.contains_key(*key))
                .map(|(key, q)| (key.clone(), *q - before.get(key).copied().unwrap_or_default()))
                .filter(|(_, delta)| delta.sign() > 0)
                .collect();
            if asked.is_empty() {
                continue;
            }
            let used = self.used(quota, group, resource, ns, &passed);
            let over: Vec<&String> = asked
                .iter()
                .filter(|(key, delta)| used.get(*key).copied().unwrap_or_default() + **delta > hard[*key])
                .map(|(key, _)| key)
                .collect();
            if !over.is_empty() {
                return Err(request.forbid(exceeded(quota, &over, &asked, &used, &hard)));
            }
        }
        if !request.dry_run && request.operation == Operation::Create && !name(new).is_empty() {
            if passed.len() >= MAX_PENDING {
                passed.remove(0);
            }
            let until = Instant::now() + PENDING;
            passed.push(Passed { group, resource, namespace: ns.to_owned(), object: new.clone(), until });
        }
        Ok(())
    }

    fn forget_settled(&self, passed: &mut Vec<Passed>) {
        let now = Instant::now();
        passed.retain(|p| {
            let there = self.reader.get(p.group, p.resource, Some(&p.namespace), name(&p.object));
            p.until > now && there.is_none()
        });
    }

    /// What stored objects, and those on their way, take of a quota.
    fn used(&self, quota: &Value, group: &str, resource: &str, ns: &str, passed: &[Passed]) -> Usage {
        let mut total = Usage::new();
        let mut add = |object: &Value| {
            if scopes_match(quota, resource, object) {
                for (key, q) in usage::of(group, resource, object) {
                    *total.entry(key).or_default() += q;
                }
            }
        };
        self.reader.list(group, resource, Some(ns)).iter().for_each(|o| add(o));
        let on_their_way = passed.iter().filter(|p| p.namespace == ns && p.group == group && p.resource == resource);
        on_their_way.for_each(|p| add(&p.object));
        total
    }
}

fn hard(quota: &Value) -> BTreeMap<String, Quantity> {
    let map = quota.pointer("/spec/hard").and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), Quantity::from_value(v).ok()?))).collect()
}

fn exceeded(quota: &Value, over: &[&String], asked: &Usage, used: &Usage, hard: &Usage) -> String {
    let list = |from: &Usage| {
        let parts: Vec<String> =
            over.iter().map(|key| format!("{key}={}", from.get(*key).copied().unwrap_or_default())).collect();
        parts.join(",")
    };
    let (asked, used, hard) = (list(asked), list(used), list(hard));
    format!("exceeded quota: {}, requested: {asked}, used: {used}, limited: {hard}", name(quota))
}

#[async_trait::async_trait]
impl AdmissionPlugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.subresource.is_empty() || request.namespace.is_none_or(str::is_empty) {
            return Ok(());
        }
        let quotas = self.reader.list("", "resourcequotas", request.namespace);
        let (group, resource) = (request.resource.group, request.resource.plural);
        let relevant: Vec<Object> = quotas
            .into_iter()
            .filter(|q| str_at(q, "/metadata/deletionTimestamp").is_empty() && covers(&hard(q), group, resource))
            .collect();
        if relevant.is_empty() {
            return Ok(());
        }
        self.check(request, &relevant)
    }
}
