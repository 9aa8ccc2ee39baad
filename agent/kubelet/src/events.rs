//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! ```text
//! recorder (anywhere, never blocks) ─► bounded queue ─► writer: counts repeats, limits bursts ─► API server
//! ```
//!
//! The same event again raises `count` of the first instead of making another one; an object that
//! floods is cut off after a burst and gets one event per five minutes, as upstream's spam filter does.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pod::PodExt;

const QUEUE: usize = 1_000;
const CACHE: usize = 4_096;
const REFILL: Duration = Duration::from_secs(300);
const MAX_MESSAGE_BYTES: usize = 1_024;

/// Severity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Normal,
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Occurrence {
    pub object: ObjectReference,
    pub kind: Kind,
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
}

/// Hands events to the writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
    node_name: String,
}

impl Recorder {
    /// A recorder, and the queue that [`write_events`] empties.
    #[must_use]
    pub fn new(node_name: &str) -> (Self, mpsc::Receiver<Occurrence>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, node_name: node_name.to_owned() }, receiver)
    }

    /// An event on a pod.
    pub fn pod(&self, pod: &Pod, kind: Kind, reason: &str, message: impl Into<String>) {
        self.send(pod_reference(pod), kind, reason, message.into());
    }

    /// An event on one container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, kind: Kind, reason: &str, message: impl Into<String>) {
        let mut object = pod_reference(pod);
        let field = if pod.init_containers().iter().any(|c| c.name == container) {
            "initContainers"
        } else if pod.ephemeral_containers().iter().any(|c| c.name == container) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        object.field_path = Some(format!("spec.{field}{{{container}}}"));
        self.send(object, kind, reason, message.into());
    }

    /// An event on this node.
    pub fn node(&self, kind: Kind, reason: &str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some(<Node as k8s_openapi::Resource>::KIND.to_owned()),
            name: Some(self.node_name.clone()),
            // Upstream uses the node's name here, so that `kubectl describe node` finds the events.
            uid: Some(self.node_name.clone()),
            ..Default::default()
        };
        self.send(object, kind, reason, message.into());
    }

    fn send(&self, object: ObjectReference, kind: Kind, reason: &str, mut message: String) {
        if message.len() > MAX_MESSAGE_BYTES {
            let mut end = MAX_MESSAGE_BYTES;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        let name = object.name.as_deref().unwrap_or_default();
        tracing::info!(object = name, field = object.field_path.as_deref(), reason, "{message}");
        let occurrence = Occurrence { object, kind, reason: reason.to_owned(), message, at: Timestamp::now() };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!(reason, "event dropped: the queue is full or closed");
        }
    }
}

fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: Some(pod.namespace_str().to_owned()),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        ..Default::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    object: String,
    kind: Kind,
    reason: String,
    message: String,
}

/// What to do with an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Create,
    Repeat { name: String, count: i32 },
    Drop,
}

/// The correlator: pure but for the time that it is given.
#[derive(Debug)]
struct Correlator {
    burst: u32,
    seen: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
    tokens: HashMap<String, (u32, Instant)>,
}

impl Correlator {
    fn new(burst: u32) -> Self {
        Self { burst, seen: HashMap::new(), order: VecDeque::new(), tokens: HashMap::new() }
    }

    fn verdict(&mut self, key: &Key, now: Instant) -> Verdict {
        if self.tokens.len() > CACHE {
            self.tokens.clear();
        }
        let (tokens, since) = self.tokens.entry(key.object.clone()).or_insert((self.burst, now));
        let refills = u32::try_from(now.duration_since(*since).as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if refills > 0 {
            *tokens = tokens.saturating_add(refills).min(self.burst);
            *since = now;
        }
        if *tokens == 0 {
            return Verdict::Drop;
        }
        *tokens -= 1;
        match self.seen.get_mut(key) {
            Some((name, count)) => {
                *count += 1;
                Verdict::Repeat { name: name.clone(), count: *count }
            }
            None => Verdict::Create,
        }
    }

    fn created(&mut self, key: Key, name: String) {
        if self.seen.insert(key.clone(), (name, 1)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > CACHE {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        self.seen.remove(key);
        self.order.retain(|k| k != key);
    }
}

/// Writes what the recorder hands over, until `shutdown`. Without a client events end in the log.
pub async fn write_events(
    mut queue: mpsc::Receiver<Occurrence>,
    client: Option<kube::Client>,
    node_name: String,
    burst: u32,
    shutdown: CancellationToken,
) {
    let mut correlator = Correlator::new(burst);
    loop {
        let occurrence = tokio::select! {
            () = shutdown.cancelled() => return,
            next = queue.recv() => match next { Some(next) => next, None => return },
        };
        let Some(client) = &client else { continue };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = write_one(client, &node_name, &mut correlator, occurrence) => {}
        }
    }
}

async fn write_one(client: &kube::Client, node_name: &str, correlator: &mut Correlator, occurrence: Occurrence) {
    let namespace = occurrence.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let key = Key {
        object: format!(
            "{}/{}/{}",
            namespace,
            occurrence.object.uid.as_deref().or(occurrence.object.name.as_deref()).unwrap_or_default(),
            occurrence.object.field_path.as_deref().unwrap_or_default()
        ),
        kind: occurrence.kind,
        reason: occurrence.reason.clone(),
        message: occurrence.message.clone(),
    };
    match correlator.verdict(&key, Instant::now()) {
        Verdict::Drop => return,
        Verdict::Repeat { name, count } => {
            let patch = serde_json::json!({
                "count": count,
                "lastTimestamp": Time(occurrence.at),
            });
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return,
                // It expired meanwhile: a new one.
                Err(kube::Error::Api(status)) if status.code == 404 => correlator.forget(&key),
                Err(error) => {
                    tracing::debug!(%error, reason = occurrence.reason, "cannot update event");
                    return;
                }
            }
        }
        Verdict::Create => {}
    }
    let name = format!("{}.{:x}", occurrence.object.name.as_deref().unwrap_or_default(), occurrence.at.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..Default::default() },
        count: Some(1),
        first_timestamp: Some(Time(occurrence.at)),
        last_timestamp: Some(Time(occurrence.at)),
        message: Some(occurrence.message),
        reason: Some(occurrence.reason),
        type_: Some(occurrence.kind.as_str().to_owned()),
        involved_object: occurrence.object,
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node_name.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        ..Default::default()
    };
    // A few tries: an event is worth some patience, not a queue that stands still.
    for attempt in 0..3_u64 {
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => return correlator.created(key, name),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                tracing::debug!(%status, "event refused");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot write event");
                tokio::time::sleep(Duration::from_secs(attempt * 2 + 1)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_floods_cut() {
        let mut correlator = Correlator::new(3);
        let key = |message: &str| Key {
            object: "n/p/".into(),
            kind: Kind::Normal,
            reason: "BackOff".into(),
            message: message.into(),
        };
        let now = Instant::now();
        assert_eq!(correlator.verdict(&key("a"), now), Verdict::Create);
        correlator.created(key("a"), "e1".into());
        assert_eq!(correlator.verdict(&key("a"), now), Verdict::Repeat { name: "e1".into(), count: 2 });
        assert_eq!(correlator.verdict(&key("b"), now), Verdict::Create);
        assert_eq!(correlator.verdict(&key("c"), now), Verdict::Drop);
        assert_eq!(correlator.verdict(&key("c"), now + REFILL), Verdict::Create);
        assert_eq!(correlator.verdict(&key("c"), now + REFILL), Verdict::Drop);
    }
}
