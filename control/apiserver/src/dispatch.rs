//! From a request to its handler: audit id, identity, limits, authorization, routing.
//!
//! ```text
//! parse ─► authenticate ─► impersonate ─► authorize ─► limit ─► route ─► verb ─► encode
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method};
use orlop_api::registry::{self, ResourceInfo};
use orlop_api::status::Status;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::app::{App, Peer};
use crate::authn::{UserInfo, impersonation};
use crate::authz::{self, Attributes};
use crate::call::Call;
use crate::metrics::LongRunning;
use crate::wire::negotiate::{Accepted, Shape};
use crate::wire::query::Query;
use crate::wire::request_info::RequestInfo;
use crate::wire::{Request, Response, empty, respond};
use crate::{documents, health, node_proxy, openapi, subresources, verbs};

/// Serves one request; never fails and never panics.
pub(crate) async fn serve(app: Arc<App>, request: Request) -> Response {
    let started = Instant::now();
    let query = Query::parse(request.uri().query());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let accepted = Accepted::lenient(request.headers(), &query);
    let head = request.method() == Method::HEAD;
    let audit_id = audit_id(request.headers());
    let long_running = info.is_long_running(&query);
    let labels = app.metrics.labels(&info, request.method());
    let from = request.extensions().get::<Peer>().map(|peer| peer.address);
    tracing::debug!(method = %request.method(), path = %info.path, verb = %info.verb, ?from, "request");

    let handled = AssertUnwindSafe(handle(app.clone(), info, query, request)).catch_unwind();
    let outcome = if long_running {
        handled.await
    } else {
        let limit = app.config.limits.request_timeout;
        tokio::time::timeout(limit, handled)
            .await
            .unwrap_or_else(|_| Ok(Err(Status::timeout("request did not complete within the allotted timeout", 0))))
    };
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::status(accepted, &status),
        Err(_) => {
            tracing::error!(path = %labels.path, "a request handler panicked");
            respond::status(accepted, &Status::internal("this request caused a bug to show itself; see the log"))
        }
    };
    if head {
        *response.body_mut() = empty();
    }
    response.headers_mut().insert(HeaderName::from_static("audit-id"), audit_id);
    app.metrics.observe(&labels, response.status(), started.elapsed(), long_running);
    response
}

/// The caller's `Audit-ID` where it is sane, so that chains of servers share one.
fn audit_id(headers: &http::HeaderMap) -> HeaderValue {
    headers
        .get("audit-id")
        .filter(|v| (1..=128).contains(&v.len()))
        .cloned()
        .or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok())
        .unwrap_or(HeaderValue::from_static(""))
}

async fn handle(app: Arc<App>, info: RequestInfo, query: Query, request: Request) -> Result<Response, Status> {
    let (mut parts, body) = request.into_parts();
    let user = authenticate(&app, &mut parts)?;
    let attributes = attributes(&info, &user, &query);
    let decision = app.authorizer.authorize(&attributes);
    if !decision.is_allowed() {
        return Err(authz::forbidden(&attributes, decision.reason()));
    }
    // Upstream's AuthorizePodWebsocketUpgradeCreatePermission: a WebSocket is a GET, yet it acts.
    if needs_create_too(&info) {
        let create = Attributes { verb: "create".to_owned(), ..attributes.clone() };
        let decision = app.authorizer.authorize(&create);
        if !decision.is_allowed() {
            return Err(authz::forbidden(&create, decision.reason()));
        }
    }
    let permit = admit(&app, &info, &query, &user)?;
    let request = Request::from_parts(parts, body);
    if !info.resource_request {
        let (parts, _) = request.into_parts();
        return non_resource(&app, &info, &query, &parts).boxed().await;
    }
    resource(app, info, query, user, request, permit).await
}

fn authenticate(app: &App, parts: &mut http::request::Parts) -> Result<Arc<UserInfo>, Status> {
    let user = match parts.extensions.get::<Arc<UserInfo>>() {
        // In-process clients are who their maker says.
        Some(user) => user.clone(),
        None => {
            let certificates = parts.extensions.get::<Peer>().map(|p| p.certificates.clone());
            let chain: Option<&[CertificateDer<'_>]> =
                certificates.as_ref().map(|c| c.as_slice()).filter(|c| !c.is_empty());
            app.authenticator.authenticate(parts, chain)?
        }
    };
    // Never passed on to a kubelet or a pod.
    parts.headers.remove(http::header::AUTHORIZATION);
    let user = impersonation::impersonate(&parts.headers, &user, &app.authorizer)?;
    let impersonating: Vec<HeaderName> =
        parts.headers.keys().filter(|k| k.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonating {
        parts.headers.remove(name);
    }
    Ok(user)
}

fn attributes(info: &RequestInfo, user: &Arc<UserInfo>, query: &Query) -> Attributes {
    Attributes {
        user: user.clone(),
        verb: info.verb.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        api_group: info.group.clone(),
        api_version: info.version.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        path: info.path.clone(),
        resource_request: info.resource_request,
        field_selector: if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            query.get("fieldSelector").unwrap_or_default().to_owned()
        } else {
            String::new()
        },
    }
}

fn needs_create_too(info: &RequestInfo) -> bool {
    info.resource == "pods"
        && info.verb == "get"
        && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward")
}

/// A request's share of what may run at once; `system:masters` is exempt, so that an administrator gets in.
fn admit(
    app: &App,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
) -> Result<Option<OwnedSemaphorePermit>, Status> {
    let semaphore: &Arc<Semaphore> = if info.is_long_running(query) {
        &app.in_flight.long_running
    } else if info.is_mutating() {
        &app.in_flight.mutating
    } else {
        &app.in_flight.readonly
    };
    match semaphore.clone().try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) if user.in_group(UserInfo::MASTERS) => Ok(None),
        Err(_) => Err(Status::too_many_requests("Too many requests, please try again later.", 1)),
    }
}

async fn non_resource(
    app: &Arc<App>,
    info: &RequestInfo,
    query: &Query,
    parts: &http::request::Parts,
) -> Result<Response, Status> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    if let Some(response) = health::serve(app, &info.path, query).await {
        return Ok(response);
    }
    if info.path.starts_with("/openapi/") {
        return openapi::serve(&info.path, query, &parts.headers).await;
    }
    documents::serve(app, &info.path, query, &parts.headers)
}

async fn resource(
    app: Arc<App>,
    info: RequestInfo,
    query: Query,
    user: Arc<UserInfo>,
    request: Request,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Response, Status> {
    let row = registry::find(&info.group, &info.version, &info.resource).ok_or_else(Status::path_not_found)?;
    check_scope(row, &info, request.method())?;
    let streams = matches!(info.subresource.as_str(), "proxy" | "exec" | "attach" | "portforward" | "log");
    let accepted = if streams {
        Accepted::lenient(request.headers(), &query)
    } else {
        let accepted = Accepted::negotiate(request.headers(), &query)?;
        if accepted.shape == Shape::Discovery {
            return Err(Status::not_acceptable(&["application/json", "application/yaml"]));
        }
        accepted
    };
    let headers = request.headers().clone();
    let call = Call { app, info, row, user, query, accepted, headers };
    if streams {
        let gauge = call.app.metrics.long_running(&call.info);
        return node_proxy::serve(&call, request, (permit, gauge)).boxed().await;
    }
    let body = request.into_body();
    let mut response = if !call.info.subresource.is_empty() || !row.is_stored() {
        subresources::serve(&call, body).boxed().await?
    } else if row.has_verb(&call.info.verb) {
        verb(&call, body, permit).await?
    } else {
        return Err(Status::method_not_supported(row, &call.info.verb));
    };
    if let Some(warning) = deprecation(row) {
        respond::warn(&mut response, &[warning.to_owned()]);
    }
    Ok(response)
}

/// What upstream tells everybody who uses these.
fn deprecation(row: &ResourceInfo) -> Option<&'static str> {
    match (row.group, row.plural) {
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    }
}

/// Boxed, so that a request's future is as large as its own verb needs, not as the largest.
fn verb<'a>(
    call: &'a Call,
    body: crate::wire::Body,
    permit: Option<OwnedSemaphorePermit>,
) -> BoxFuture<'a, Result<Response, Status>> {
    match call.info.verb.as_str() {
        "get" => verbs::read::get(call).boxed(),
        "list" => verbs::read::list(call).boxed(),
        "watch" => {
            let gauge: LongRunning = call.app.metrics.long_running(&call.info);
            verbs::watch::watch(call, (permit, gauge)).boxed()
        }
        "create" => verbs::create::create(call, body).boxed(),
        "update" => verbs::update::update(call, body).boxed(),
        "patch" => verbs::patch::patch(call, body).boxed(),
        "delete" => verbs::delete::delete(call, body).boxed(),
        "deletecollection" => verbs::delete_collection::delete_collection(call, body).boxed(),
        _ => async { Err(Status::method_not_allowed()) }.boxed(),
    }
}

/// A path has a namespace exactly where the resource is in one; lists and reviews go over all.
fn check_scope(row: &ResourceInfo, info: &RequestInfo, method: &Method) -> Result<(), Status> {
    let is_namespaces = row.group.is_empty() && row.plural == "namespaces";
    if !row.namespaced && !info.namespace.is_empty() && !is_namespaces {
        return Err(Status::path_not_found());
    }
    if row.namespaced && info.namespace.is_empty() && !matches!(info.verb.as_str(), "list" | "watch") {
        // Reading goes over all namespaces; writing needs one.
        let writes = matches!(*method, Method::POST | Method::DELETE);
        return Err(if writes { Status::method_not_allowed() } else { Status::path_not_found() });
    }
    // OPTIONS and methods that HTTP does not know.
    if info.verb.is_empty() {
        return Err(Status::method_not_allowed());
    }
    if matches!(info.verb.as_str(), "update" | "patch" | "delete") && info.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    Ok(())
}
