//! Events of the API server, reduced to what the tracker takes.

use std::collections::HashSet;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

use crate::services::{ServiceName, ServiceSpec, service_spec};
use crate::slices::{SliceSpec, slice_spec};
use crate::tracker::Tracker;

/// Upstream's filter: neither headless Services nor those of another proxy.
const SELECTOR: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
/// An autoscaler is about to delete the node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// One thing that happened.
pub(crate) enum Seen {
    Service(Listed<ServiceSpec>),
    Slice(Listed<SliceSpec>),
    /// Whether load balancers should send traffic to this node.
    NodeEligible(bool),
    /// A watch failed and will be tried again.
    Failed(&'static str, watcher::Error),
}

/// An event of a watch that keeps a complete set.
pub(crate) enum Listed<T> {
    /// A new list begins; what it doesn't name is gone at its end.
    Begin,
    /// An object of the list, or a change.
    Is { name: ServiceName, spec: Option<T>, listing: bool },
    /// A change: it is gone.
    Gone(ServiceName),
    /// The list is complete.
    End,
}

/// All three watches, each starting over by itself after a failure.
pub(crate) fn watches(client: Client, node_name: &str) -> SelectAll<BoxStream<'static, Seen>> {
    let selected = watcher::Config::default().labels(SELECTOR);
    let services = watcher(Api::<Service>::all(client.clone()), selected.clone())
        .default_backoff()
        .map(|event| match event {
            Ok(event) => Seen::Service(listed(event, service_spec)),
            Err(error) => Seen::Failed("services", error),
        })
        .boxed();
    let node = node_name.to_owned();
    let slices = watcher(Api::<EndpointSlice>::all(client.clone()), selected)
        .default_backoff()
        .map(move |event| match event {
            Ok(event) => Seen::Slice(listed(event, |slice| slice_spec(slice, &node))),
            Err(error) => Seen::Failed("endpointslices", error),
        })
        .boxed();
    let own = watcher::Config::default().fields(&format!("metadata.name={node_name}"));
    let nodes = watcher(Api::<Node>::all(client), own)
        .default_backoff()
        .filter_map(|event| async move {
            match event {
                Ok(Event::Apply(node) | Event::InitApply(node)) => Some(Seen::NodeEligible(eligible(&node))),
                Ok(Event::Delete(_)) => Some(Seen::NodeEligible(false)),
                Ok(Event::Init | Event::InitDone) => None,
                Err(error) => Some(Seen::Failed("nodes", error)),
            }
        })
        .boxed();
    futures::stream::select_all([services, slices, nodes])
}

fn listed<K: ResourceExt, T>(event: Event<K>, reduce: impl Fn(&K) -> Option<T>) -> Listed<T> {
    let name = |object: &K| ServiceName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    match event {
        Event::Init => Listed::Begin,
        Event::InitApply(object) => Listed::Is { name: name(&object), spec: reduce(&object), listing: true },
        Event::Apply(object) => Listed::Is { name: name(&object), spec: reduce(&object), listing: false },
        Event::Delete(object) => Listed::Gone(name(&object)),
        Event::InitDone => Listed::End,
    }
}

fn eligible(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// Where the two lists that matter stand.
#[derive(Default)]
pub(crate) struct Progress {
    services: Listing,
    slices: Listing,
}

#[derive(Default)]
struct Listing {
    seen: HashSet<ServiceName>,
    complete: bool,
}

/// How many objects an event changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) services: u64,
    pub(crate) endpoints: u64,
}

impl Progress {
    /// Both lists were complete once: nothing may be synced before, or what runs would be taken down.
    pub(crate) fn complete(&self) -> bool {
        self.services.complete && self.slices.complete
    }

    /// Tells the tracker.
    pub(crate) fn service(&mut self, event: Listed<ServiceSpec>, tracker: &mut Tracker) -> Changes {
        let changed = match event {
            Listed::Begin => return self.services.begin(),
            Listed::Is { name, spec, listing } => {
                self.services.note(&name, listing);
                tracker.set_service(name, spec)
            }
            Listed::Gone(name) => tracker.set_service(name, None),
            Listed::End => {
                tracker.retain_services(&self.services.end());
                false
            }
        };
        Changes { services: u64::from(changed), endpoints: 0 }
    }

    /// Tells the tracker.
    pub(crate) fn slice(&mut self, event: Listed<SliceSpec>, tracker: &mut Tracker) -> Changes {
        let changed = match event {
            Listed::Begin => return self.slices.begin(),
            Listed::Is { name, spec, listing } => {
                self.slices.note(&name, listing);
                for (address, reason) in spec.iter().flat_map(|spec| &spec.refused) {
                    tracing::warn!(slice = %name, address, reason, "an endpoint was refused");
                }
                tracker.set_slice(name, spec)
            }
            Listed::Gone(name) => tracker.set_slice(name, None),
            Listed::End => {
                tracker.retain_slices(&self.slices.end());
                false
            }
        };
        Changes { services: 0, endpoints: u64::from(changed) }
    }
}

impl Listing {
    fn begin(&mut self) -> Changes {
        self.seen.clear();
        Changes::default()
    }

    fn note(&mut self, name: &ServiceName, listing: bool) {
        if listing {
            self.seen.insert(name.clone());
        }
    }

    fn end(&mut self) -> HashSet<ServiceName> {
        self.complete = true;
        std::mem::take(&mut self.seen)
    }
}
