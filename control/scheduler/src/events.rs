//! What users see of decisions: Events, the PodScheduled condition, nominations.
//!
//! One task writes them, in order, from a bounded queue: when the API server is slow, decisions go on
//! and the oldest news is kept.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cache::PodInfo;
use crate::framework::Nomination;

const QUEUE: usize = 4096;
/// Events remembered, so that a repeated one raises a count instead of adding an object.
const REMEMBERED: usize = 4096;

/// One piece of news.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Scheduled {
        pod: Arc<PodInfo>,
        node: String,
    },
    /// `reason` of the PodScheduled condition: `Unschedulable` or `SchedulerError`.
    Failed {
        pod: Arc<PodInfo>,
        reason: &'static str,
        message: String,
    },
    Preempt {
        pod: Arc<PodInfo>,
        nomination: Nomination,
    },
}

/// Sends news to the task that writes it.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<News>);

impl Reporter {
    /// The sender, and the task to run.
    pub(crate) fn new(client: Client, component: String) -> (Self, Writer) {
        let (sender, news) = mpsc::channel(QUEUE);
        (Self(sender), Writer { client, component, news, known: HashMap::new() })
    }

    pub(crate) fn report(&self, news: News) {
        if self.0.try_send(news).is_err() {
            tracing::debug!("news dropped: the API server does not keep up");
        }
    }
}

/// Key of an event that may repeat: Pod, reason, message.
type EventKey = (String, &'static str, String);

pub(crate) struct Writer {
    client: Client,
    component: String,
    news: mpsc::Receiver<News>,
    /// Name and count of what was written.
    known: HashMap<EventKey, (String, i32)>,
}

impl Writer {
    /// Runs until every [`Reporter`] is gone and the rest is written.
    pub(crate) async fn run(mut self) {
        while let Some(news) = self.news.recv().await {
            if let Err(error) = self.write(&news).await {
                tracing::debug!(%error, ?news, "news not written");
            }
        }
    }

    async fn write(&mut self, news: &News) -> Result<(), kube::Error> {
        match news {
            News::Scheduled { pod, node } => {
                let message = format!("Successfully assigned {} to {node}", pod.key());
                self.event(pod, "Normal", "Scheduled", "Binding", &message).await
            }
            News::Failed { pod, reason, message } => {
                let event = self.event(pod, "Warning", "FailedScheduling", "Scheduling", message).await;
                self.condition(pod, reason, message).await.and(event)
            }
            News::Preempt { pod, nomination } => self.preempt(pod, nomination).await,
        }
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }

    async fn event(
        &mut self,
        pod: &PodInfo,
        type_: &str,
        reason: &'static str,
        action: &str,
        message: &str,
    ) -> Result<(), kube::Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        let now = Timestamp::now();
        let key = (pod.uid.clone(), reason, message.to_owned());
        if let Some((name, count)) = self.known.get_mut(&key) {
            *count += 1;
            let patch = json!({ "count": *count, "lastTimestamp": second(now) });
            let patched = events.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            if patched.is_ok() {
                return Ok(());
            }
            // It has expired since: write it anew.
            self.known.remove(&key);
        }
        let name = format!("{}.{:x}", pod.name, now.as_nanosecond());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": pod.namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
                "resourceVersion": pod.pod.metadata.resource_version,
            },
            "type": type_,
            "reason": reason,
            "action": action,
            "message": message,
            "source": { "component": self.component },
            "reportingComponent": self.component,
            "reportingInstance": "",
            "firstTimestamp": second(now),
            "lastTimestamp": second(now),
            "count": 1,
        });
        let event: Event = serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
        events.create(&PostParams::default(), &event).await?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, (name, 1));
        Ok(())
    }

    async fn condition(&self, pod: &PodInfo, reason: &str, message: &str) -> Result<(), kube::Error> {
        let status = pod.pod.status.as_ref();
        let before = status.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled"));
        let same = before.is_some_and(|c| {
            c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
        });
        if same {
            return Ok(());
        }
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastProbeTime": null,
        });
        if before.is_none_or(|c| c.status != "False") {
            condition["lastTransitionTime"] = json!(second(Timestamp::now()));
        }
        if let Some(generation) = pod.pod.metadata.generation {
            condition["observedGeneration"] = json!(generation);
        }
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [condition] } });
        self.pods(pod).patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        Ok(())
    }

    async fn preempt(&mut self, pod: &PodInfo, nomination: &Nomination) -> Result<(), kube::Error> {
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "nominatedNodeName": nomination.node } });
        self.pods(pod).patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        for victim in &nomination.victims {
            let message = format!("Preempted by pod {} on node {}", pod.uid, nomination.node);
            self.event(victim, "Normal", "Preempted", "Preempting", &message).await?;
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", self.component),
                "lastTransitionTime": second(Timestamp::now()), "lastProbeTime": null,
            });
            let patch = json!({ "metadata": { "uid": victim.uid }, "status": { "conditions": [condition] } });
            self.pods(victim).patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
            let only_this = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            self.pods(victim).delete(&victim.name, &params).await?;
        }
        Ok(())
    }
}

/// `metav1.Time` has whole seconds.
fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
