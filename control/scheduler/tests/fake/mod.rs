//! A small API server behind `kube::Client`: lists, watches from a log, bindings, events, status patches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::service_fn;

type Reply = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

#[derive(Default)]
struct State {
    revision: u64,
    /// By plural and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    /// Revision, plural, watch event.
    log: Vec<(u64, String, Value)>,
    events: Vec<Value>,
    bindings: Vec<(String, String)>,
    /// Bindings to answer with a conflict before one succeeds.
    refuse_bindings: usize,
}

#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        Client::new(
            service_fn(move |request: Request<Body>| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
            }),
            "default",
        )
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let result = act(&mut state);
        self.changed.send_replace(state.revision);
        result
    }

    /// Creates or replaces.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        self.with(|s| s.put(plural, object));
    }

    pub(crate) fn delete(&self, plural: &str, key: &str) {
        self.with(|s| {
            if let Some(object) = s.objects.remove(&(plural.to_owned(), key.to_owned())) {
                s.revision += 1;
                s.log.push((s.revision, plural.to_owned(), json!({"type": "DELETED", "object": object})));
            }
        });
    }

    pub(crate) fn refuse_bindings(&self, count: usize) {
        self.with(|s| s.refuse_bindings = count);
    }

    pub(crate) fn bindings(&self) -> Vec<(String, String)> {
        self.with(|s| s.bindings.clone())
    }

    /// `reason: message` of every event.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = |e: &Value| format!("{}: {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap());
        self.with(|s| s.events.iter().map(text).collect())
    }

    pub(crate) fn get(&self, plural: &str, key: &str) -> Value {
        self.with(|s| s.objects.get(&(plural.to_owned(), key.to_owned())).cloned().unwrap_or_default())
    }

    /// Waits until `holds`, or tells what was there instead.
    pub(crate) async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: bindings {:?}, events {:?}", self.bindings(), self.events());
    }

    async fn answer(&self, request: Request<Body>) -> Reply {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path: Vec<String> = parts.uri.path().split('/').skip(3).map(str::to_owned).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = parts.uri.query().unwrap_or_default();
        match (&parts.method, path.as_slice()) {
            (&Method::GET, [plural]) if query.contains("watch=true") => self.watch(plural, query),
            (&Method::GET, [plural]) => self.list(plural),
            (&Method::POST, ["namespaces", namespace, "pods", name, "binding"]) => {
                self.bind(&format!("{namespace}/{name}"), body["target"]["name"].as_str().unwrap())
            }
            (&Method::POST, ["namespaces", _, "events"]) => {
                self.with(|s| s.events.push(body.clone()));
                reply(StatusCode::CREATED, &body)
            }
            (&Method::PATCH, ["namespaces", namespace, "pods", name, "status"]) => {
                let key = ("pods".to_owned(), format!("{namespace}/{name}"));
                let patched = self.with(|s| {
                    let mut pod = s.objects.get(&key).cloned().unwrap_or_default();
                    for (field, value) in body["status"].as_object().unwrap() {
                        pod["status"][field] = value.clone();
                    }
                    s.put("pods", pod.clone());
                    pod
                });
                reply(StatusCode::OK, &patched)
            }
            (&Method::DELETE, ["namespaces", namespace, "pods", name]) => {
                self.delete("pods", &format!("{namespace}/{name}"));
                reply(StatusCode::OK, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            _ => status(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn list(&self, plural: &str) -> Reply {
        let list = self.with(|s| {
            let items: Vec<Value> =
                s.objects.iter().filter(|((p, _), _)| p == plural).map(|(_, o)| o.clone()).collect();
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": s.revision.to_string()}, "items": items})
        });
        reply(StatusCode::OK, &list)
    }

    fn watch(&self, plural: &str, query: &str) -> Reply {
        let since = query.split('&').find_map(|p| p.strip_prefix("resourceVersion=")).unwrap_or("0");
        let start = (since.parse::<u64>().unwrap_or_default(), self.changed.subscribe());
        let (state, plural) = (Arc::clone(&self.state), plural.to_owned());
        let lines = stream::unfold(start, move |(mut revision, mut changed)| {
            let (state, plural) = (Arc::clone(&state), plural.clone());
            async move {
                loop {
                    changed.borrow_and_update();
                    let next = {
                        let state = state.lock().unwrap();
                        state.log.iter().find(|(r, p, _)| *r > revision && *p == plural).cloned()
                    };
                    if let Some((at, _, event)) = next {
                        revision = at;
                        return Some((Bytes::from(format!("{event}\n")), (revision, changed)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        let body = StreamBody::new(lines.map(|line| Ok(http_body::Frame::data(line))));
        Response::new(UnsyncBoxBody::new(body))
    }

    fn bind(&self, key: &str, node: &str) -> Reply {
        self.with(|s| {
            if s.refuse_bindings > 0 {
                s.refuse_bindings -= 1;
                return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
            }
            let Some(mut pod) = s.objects.get(&("pods".to_owned(), key.to_owned())).cloned() else {
                return status(StatusCode::NOT_FOUND, "NotFound");
            };
            pod["spec"]["nodeName"] = json!(node);
            s.put("pods", pod);
            s.bindings.push((key.to_owned(), node.to_owned()));
            status(StatusCode::CREATED, "")
        })
    }
}

impl State {
    fn put(&mut self, plural: &str, mut object: Value) {
        self.revision += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.revision.to_string());
        let name = meta["name"].as_str().unwrap().to_owned();
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{name}"));
        }
        let key = match meta["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        let before = self.objects.insert((plural.to_owned(), key), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((self.revision, plural.to_owned(), json!({"type": kind, "object": object})));
    }
}

fn reply(code: StatusCode, body: &Value) -> Reply {
    let body = UnsyncBoxBody::new(Full::new(Bytes::from(body.to_string())));
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: StatusCode, reason: &str) -> Reply {
    let outcome = if code.is_success() { "Success" } else { "Failure" };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": outcome, "reason": reason, "message": reason, "code": code.as_u16()});
    reply(code, &body)
}
