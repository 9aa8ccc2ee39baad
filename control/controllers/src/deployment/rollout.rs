//! One sync of one Deployment: makes the new ReplicaSet, applies the plan, cleans up, writes status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::plan::{self, Scale, Set, Want};
use super::revision::{self, DESIRED, HASH_LABEL, MAX, REVISION};
use super::status;
use crate::context::{Context, Requeue};
use crate::error::{Result, api, is_already_exists, is_namespace_terminating, is_not_found, message};
use crate::events::Recorder;
use crate::expectations::Expectations;
use crate::informer::Key;
use crate::ownership::{controller_reference, is_controlled_by};

pub(super) struct Rollout<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) recorder: &'a Recorder,
    pub(super) written: &'a Expectations,
    pub(super) key: &'a Key,
    pub(super) deployment: &'a Deployment,
}

/// The sets of a Deployment, told apart.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    all: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    fn of(deployment: &Deployment, all: Vec<Arc<ReplicaSet>>) -> Self {
        let new = revision::find_new(deployment, &all).cloned();
        let uid = new.as_ref().and_then(|n| n.uid());
        let old = all.iter().filter(|set| new.is_none() || set.uid() != uid).cloned().collect();
        Self { new, old, all }
    }

    fn old_views(&self) -> Vec<Set> {
        self.old.iter().map(|set| view(set)).collect()
    }
}

fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0)
}

fn view(set: &ReplicaSet) -> Set {
    let status = set.status.clone().unwrap_or_default();
    Set {
        name: set.name_any(),
        replicas: spec_replicas(set),
        current: status.replicas,
        available: status.available_replicas.unwrap_or(0),
        created: set.creation_timestamp().map(|t| t.0),
        desired_noted: revision::number(set, DESIRED),
        max_noted: revision::number(set, MAX),
    }
}

pub(super) fn want(deployment: &Deployment) -> Want {
    let spec = deployment.spec.as_ref();
    let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
    let strategy = spec.and_then(|s| s.strategy.as_ref());
    let recreate = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let (max_surge, max_unavailable) = plan::fenceposts(
        rolling.and_then(|r| r.max_surge.as_ref()),
        rolling.and_then(|r| r.max_unavailable.as_ref()),
        replicas,
    );
    Want { replicas, recreate, max_surge, max_unavailable }
}

impl Rollout<'_> {
    pub(super) async fn sync(&self, sets: Vec<Arc<ReplicaSet>>) -> Result<Requeue> {
        let want = want(self.deployment);
        let mut sets = Sets::of(self.deployment, sets);
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return self.write_status(&sets, self.counts(&sets, &want)).await;
        }
        self.write_paused().await?;
        let paused = self.deployment.spec.as_ref().and_then(|s| s.paused) == Some(true);
        let resized = sets.all.iter().any(|set| {
            spec_replicas(set) > 0 && revision::number(set, DESIRED).is_some_and(|noted| noted != want.replicas)
        });
        if paused || resized {
            let new = sets.new.as_deref().map(view);
            let scales = plan::scale(&want, new.as_ref(), &sets.old_views());
            self.apply(&want, &sets, scales).await?;
            if paused {
                self.clean_up(&sets.old).await?;
            }
            return self.write_status(&sets, self.counts(&sets, &want)).await;
        }
        if want.recreate {
            let old_active: Vec<Scale> = sets
                .old
                .iter()
                .filter(|set| spec_replicas(set) > 0)
                .map(|set| Scale { name: set.name_any(), to: 0 })
                .collect();
            let scaled = !old_active.is_empty();
            self.apply(&want, &sets, old_active).await?;
            let pods = self.context.informers.pods.list_in(&self.key.namespace);
            if scaled || super::running_pods_of(&sets.old, &pods) > 0 {
                return self.write_rollout(&sets, &want).await;
            }
        }
        let Some(new) = self.new_set(&want, &sets).await? else { return Ok(None) };
        if sets.new.is_none() {
            sets.all.push(Arc::clone(&new));
        }
        sets.new = Some(Arc::clone(&new));
        let new_view = view(&new);
        let scales = if want.recreate {
            let differs = new_view.replicas != want.replicas;
            let scale = Scale { name: new_view.name, to: want.replicas };
            differs.then_some(scale).into_iter().collect()
        } else {
            plan::rolling(&want, &new_view, &sets.old_views())
        };
        self.apply(&want, &sets, scales).await?;
        if status::is_complete(self.deployment, &self.counts(&sets, &want)) {
            self.clean_up(&sets.old).await?;
        }
        self.write_rollout(&sets, &want).await
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    fn replica_sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    fn counts(&self, sets: &Sets, want: &Want) -> DeploymentStatus {
        let all: Vec<&ReplicaSet> = sets.all.iter().map(|set| &**set).collect();
        let now = self.context.now();
        status::counts(self.deployment, &all, sets.new.as_deref(), want.unavailable(), now)
    }

    async fn write_rollout(&self, sets: &Sets, want: &Want) -> Result<Requeue> {
        let all: Vec<&ReplicaSet> = sets.all.iter().map(|set| &**set).collect();
        let counts = self.counts(sets, want);
        let now = self.context.now();
        let judged = status::rollout(self.deployment, counts, &all, sets.new.as_deref(), now);
        self.write_status(sets, judged).await
    }

    async fn write_status(&self, sets: &Sets, status: DeploymentStatus) -> Result<Requeue> {
        let now = self.context.now();
        let again = status::judge_again_in_s(self.deployment, &status, now);
        // The revision stands on the Deployment as well; `kubectl rollout` reads it there.
        let revision = sets.new.as_ref().and_then(|new| new.annotations().get(REVISION));
        if revision.is_some() && self.deployment.annotations().get(REVISION) != revision {
            let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
            self.deployments()
                .patch(&self.key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(api("noting the revision of", self.key))?;
            // The change brings the Deployment back into the queue, with the version to write on.
            return Ok(Some(Duration::from_millis(100)));
        }
        if self.deployment.status.as_ref() != Some(&status) {
            let changed = Deployment { status: Some(status), ..self.deployment.clone() };
            let result = self.deployments().replace_status(&self.key.name, &PostParams::default(), &changed).await;
            match result {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => return Ok(None),
                Err(error) => return Err(api("writing the status of", self.key)(error)),
            }
        }
        Ok(again.map(Duration::from_secs))
    }

    /// Progressing says when a roll-out with a deadline was paused and resumed, so that the time
    /// between does not count.
    async fn write_paused(&self) -> Result<()> {
        if status::deadline_s(self.deployment).is_none() {
            return Ok(());
        }
        let mut changed = self.deployment.status.clone().unwrap_or_default();
        let progressing = status::condition(&changed, "Progressing");
        if progressing.is_some_and(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded")) {
            return Ok(());
        }
        let noted = progressing.is_some_and(|c| c.reason.as_deref() == Some("DeploymentPaused"));
        let paused = self.deployment.spec.as_ref().and_then(|s| s.paused) == Some(true);
        let (reason, message) = match (paused, noted) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return Ok(()),
        };
        let now = self.context.now();
        let condition = status::new_condition("Progressing", "Unknown", reason, message.to_owned(), now);
        status::set_condition(&mut changed, condition);
        let changed = Deployment { status: Some(changed), ..self.deployment.clone() };
        self.deployments()
            .replace_status(&self.key.name, &PostParams::default(), &changed)
            .await
            .map_err(api("writing the status of", self.key))?;
        Ok(())
    }

    /// The set of the present template, made or brought up to date.
    async fn new_set(&self, want: &Want, sets: &Sets) -> Result<Option<Arc<ReplicaSet>>> {
        let newest = sets.old.iter().map(|set| revision::revision_of(set)).max().unwrap_or(0) + 1;
        let Some(known) = &sets.new else {
            return self.create_new(want, sets, newest).await;
        };
        let annotations = revision::annotations(self.deployment, known.annotations(), newest);
        let min_ready_s = self.deployment.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        let same_min_ready = known.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0) == min_ready_s;
        if annotations == *known.annotations() && same_min_ready {
            return Ok(Some(Arc::clone(known)));
        }
        let patch = json!({
            "metadata": {"annotations": annotations, "resourceVersion": known.resource_version()},
            "spec": {"minReadySeconds": min_ready_s},
        });
        self.patch_set(&known.name_any(), patch).await.map(Some)
    }

    async fn create_new(&self, want: &Want, sets: &Sets, newest: i64) -> Result<Option<Arc<ReplicaSet>>> {
        let all: i32 = sets.all.iter().map(|set| spec_replicas(set)).sum();
        let replicas = plan::new_replicas(want, 0, all);
        let Some(set) = self.template_set(want, replicas, newest) else { return Ok(None) };
        let name = set.name_any();
        match self.replica_sets().create(&PostParams::default(), &set).await {
            Ok(made) => {
                self.written.wrote(self.key, &self.context.informers.replica_sets, &made);
                if replicas > 0 {
                    let text = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.recorder.normal(self.deployment, "ScalingReplicaSet", text);
                }
                self.note_progress("NewReplicaSetCreated", format!("Created new replica set \"{name}\"")).await;
                Ok(Some(Arc::new(made)))
            }
            Err(error) if is_already_exists(&error) => self.name_taken(&name, error).await,
            Err(error) if is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let text = format!("Failed to create new replica set \"{name}\": {}", message(&error));
                self.note_failure(text.clone()).await;
                self.recorder.warning(self.deployment, "ReplicaSetCreateError", text);
                Err(api("creating replica set", name)(error))
            }
        }
    }

    fn template_set(&self, want: &Want, replicas: i32, newest: i64) -> Option<ReplicaSet> {
        let spec = self.deployment.spec.as_ref()?;
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let hash = revision::template_hash(&spec.template, collisions);
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
        let mut annotations = revision::annotations(self.deployment, &BTreeMap::new(), newest);
        annotations.insert(DESIRED.to_owned(), want.replicas.to_string());
        annotations.insert(MAX.to_owned(), want.max_total().to_string());
        Some(ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.key.name)),
                namespace: Some(self.key.namespace.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        })
    }

    /// The name exists: ours from before the cache knew it, or a collision of hashes.
    async fn name_taken(&self, name: &str, error: kube::Error) -> Result<Option<Arc<ReplicaSet>>> {
        let live = self.replica_sets().get(name).await.map_err(api("reading replica set", name))?;
        let uid = self.deployment.uid().unwrap_or_default();
        let live = Arc::new(live);
        if is_controlled_by(&*live, &uid) && revision::find_new(self.deployment, std::slice::from_ref(&live)).is_some()
        {
            return Ok(Some(live));
        }
        let mut status = self.deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let changed = Deployment { status: Some(status), ..self.deployment.clone() };
        self.deployments()
            .replace_status(&self.key.name, &PostParams::default(), &changed)
            .await
            .map_err(api("counting a collision for", self.key))?;
        Err(api("creating replica set", name)(error))
    }

    /// Best effort: a status that is older than the object is written by the next sync.
    async fn note_progress(&self, reason: &str, text: String) {
        if status::deadline_s(self.deployment).is_some() {
            self.note("True", reason, text).await;
        }
    }

    async fn note_failure(&self, text: String) {
        self.note("False", "ReplicaSetCreateError", text).await;
    }

    async fn note(&self, state: &str, reason: &str, text: String) {
        let mut status = self.deployment.status.clone().unwrap_or_default();
        let now = self.context.now();
        status::set_condition(&mut status, status::new_condition("Progressing", state, reason, text, now));
        let changed = Deployment { status: Some(status), ..self.deployment.clone() };
        let written = self.deployments().replace_status(&self.key.name, &PostParams::default(), &changed).await;
        if let Err(error) = written {
            tracing::debug!(key = %self.key, error = crate::error::chain(&error), "status not noted");
        }
    }

    async fn apply(&self, want: &Want, sets: &Sets, scales: Vec<Scale>) -> Result<()> {
        for Scale { name, to } in scales {
            let Some(set) = sets.all.iter().find(|set| set.name_any() == name) else { continue };
            let from = spec_replicas(set);
            let patch = json!({
                "metadata": {
                    "resourceVersion": set.resource_version(),
                    "annotations": {
                        DESIRED: want.replicas.to_string(),
                        MAX: want.max_total().to_string(),
                    },
                },
                "spec": {"replicas": to},
            });
            self.patch_set(&name, patch).await?;
            if from != to {
                let direction = if to > from { "up" } else { "down" };
                let text = format!("Scaled {direction} replica set {name} from {from} to {to}");
                self.recorder.normal(self.deployment, "ScalingReplicaSet", text);
            }
        }
        Ok(())
    }

    async fn patch_set(&self, name: &str, patch: serde_json::Value) -> Result<Arc<ReplicaSet>> {
        let changed = self
            .replica_sets()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(api("changing replica set", name))?;
        self.written.wrote(self.key, &self.context.informers.replica_sets, &changed);
        Ok(Arc::new(changed))
    }

    async fn clean_up(&self, old: &[Arc<ReplicaSet>]) -> Result<()> {
        let limit = self.deployment.spec.as_ref().and_then(|s| s.revision_history_limit);
        for set in revision::expired(old, limit) {
            let name = set.name_any();
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: set.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match self.replica_sets().delete(&name, &params).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(api("deleting replica set", name)(error)),
            }
        }
        Ok(())
    }
}
