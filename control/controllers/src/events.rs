//! Events about objects, as `kubectl describe` shows them: equal ones are counted, not repeated.
//!
//! Reconciles never wait for an event: they are queued (bounded; what does not fit is dropped) and
//! written by one task.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Clock;
use crate::error::chain;

/// Events that wait to be written.
const QUEUE: usize = 1024;
/// Distinct events that are remembered for counting.
const REMEMBERED: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    component: &'static str,
    uid: String,
    kind: &'static str,
    reason: &'static str,
    message: String,
}

struct Queued {
    note: Note,
    about: ObjectReference,
    at: Timestamp,
}

/// Where events go.
#[derive(Clone)]
pub(crate) struct Recorders {
    queue: mpsc::Sender<Queued>,
    clock: Clock,
}

/// Events of one controller, under upstream's component name.
#[derive(Clone)]
pub(crate) struct Recorder {
    recorders: Recorders,
    component: &'static str,
}

impl Recorders {
    /// The recorders, and the task that writes.
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, queued) = mpsc::channel(QUEUE);
        (Self { queue, clock }, write(client, queued, shutdown))
    }

    pub(crate) fn component(&self, component: &'static str) -> Recorder {
        Recorder { recorders: self.clone(), component }
    }
}

impl Recorder {
    pub(crate) fn normal<K>(&self, about: &K, reason: &'static str, message: impl Into<String>)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.record(reference(about), "Normal", reason, message.into());
    }

    pub(crate) fn warning<K>(&self, about: &K, reason: &'static str, message: impl Into<String>)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.record(reference(about), "Warning", reason, message.into());
    }

    pub(crate) fn record(&self, about: ObjectReference, kind: &'static str, reason: &'static str, message: String) {
        let uid = about.uid.clone().unwrap_or_default();
        let note = Note { component: self.component, uid, kind, reason, message };
        let queued = Queued { note, about, at: (self.recorders.clock)() };
        if self.recorders.queue.try_send(queued).is_err() {
            debug!(reason, "an event was dropped: too many wait");
        }
    }
}

/// A reference to any object.
pub(crate) fn reference<K>(object: &K) -> ObjectReference
where
    K: Resource,
    K::DynamicType: Default,
{
    let facts = K::DynamicType::default();
    ObjectReference {
        api_version: Some(K::api_version(&facts).into_owned()),
        kind: Some(K::kind(&facts).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}

async fn write(client: Client, mut queue: mpsc::Receiver<Queued>, shutdown: CancellationToken) {
    let mut known: HashMap<Note, (String, i32)> = HashMap::new();
    loop {
        let queued = tokio::select! {
            queued = queue.recv() => queued,
            () = shutdown.cancelled() => return,
        };
        let Some(queued) = queued else { return };
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let namespace = queued.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        if let Some((name, count)) = known.get_mut(&queued.note) {
            *count = count.saturating_add(1);
            let patch = json!({"count": *count, "lastTimestamp": Time(queued.at)});
            if api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok() {
                continue;
            }
            // Expired meanwhile: it is told anew.
        }
        let event = event(&queued, namespace);
        let name = event.name_any();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => drop(known.insert(queued.note, (name, 1))),
            Err(error) => {
                known.remove(&queued.note);
                debug!(reason = queued.note.reason, error = chain(&error), "an event was not written");
            }
        }
    }
}

fn event(queued: &Queued, namespace: String) -> Event {
    let about = queued.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", queued.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: queued.about.clone(),
        type_: Some(queued.note.kind.to_owned()),
        reason: Some(queued.note.reason.to_owned()),
        message: Some(queued.note.message.clone()),
        source: Some(EventSource { component: Some(queued.note.component.to_owned()), host: None }),
        reporting_component: Some(queued.note.component.to_owned()),
        first_timestamp: Some(Time(queued.at)),
        last_timestamp: Some(Time(queued.at)),
        count: Some(1),
        ..Event::default()
    }
}
