//! What a method and path ask for (upstream `RequestInfo`).

use http::Method;

use super::query::Query;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// get list watch create update patch delete deletecollection, or the lower-case method for paths.
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) resource_request: bool,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// What follows the subresource (`proxy/PATH`), without a leading slash, as it was encoded.
    pub(crate) rest: String,
}

/// Subresources of a namespace itself, in contrast to resources in it.
const NAMESPACE_SUBRESOURCES: &[&str] = &["status", "finalize"];

impl RequestInfo {
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned(), ..Self::default() };
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let mut rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.resource_request = true;
        let mut verb = verb_of(method);
        // The deprecated /watch/ prefix still means a watch.
        if let ["watch", after @ ..] = rest
            && !after.is_empty()
        {
            verb = "watch";
            rest = after;
        }
        info.take_resource(rest, path);
        if verb == "get" && info.name.is_empty() {
            verb = if query.flag("watch").unwrap_or(false) { "watch" } else { "list" };
        }
        if verb == "delete" && info.name.is_empty() {
            verb = "deletecollection";
        }
        if matches!(verb, "list" | "watch" | "deletecollection") && info.name.is_empty() {
            info.name = pinned_name(query).unwrap_or_default();
        }
        verb.clone_into(&mut info.verb);
        info
    }

    fn take_resource(&mut self, segments: &[&str], path: &str) {
        let parts = match segments {
            ["namespaces", namespace, rest @ ..] => {
                self.namespace = decode(namespace);
                match rest {
                    [] => segments,
                    [first, ..] if NAMESPACE_SUBRESOURCES.contains(first) => segments,
                    _ => rest,
                }
            }
            other => other,
        };
        self.resource = decode(parts.first().copied().unwrap_or_default());
        self.name = parts.get(1).copied().map(decode).unwrap_or_default();
        self.subresource = parts.get(2).copied().map(decode).unwrap_or_default();
        if parts.len() > 3 {
            self.rest = parts[3..].join("/");
            if path.ends_with('/') {
                self.rest.push('/');
            }
        }
    }

    /// The parts of a resource request that stay open as long as the client wants.
    pub(crate) fn is_long_running(&self, query: &Query) -> bool {
        if !self.resource_request {
            return false;
        }
        match self.subresource.as_str() {
            "proxy" | "exec" | "attach" | "portforward" => true,
            "log" => query.flag("follow").unwrap_or(false),
            _ => self.verb == "watch",
        }
    }

    pub(crate) fn is_mutating(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|n| !n.is_empty())
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// `fieldSelector=metadata.name=X` makes a list or watch one of a single name, for authorizers.
fn pinned_name(query: &Query) -> Option<String> {
    let selector = query.text("fieldSelector")?;
    let name =
        selector.split(',').find_map(|term| term.strip_prefix("metadata.name=").map(|n| n.trim_start_matches('=')))?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn decode(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| bytes.get(i + 1..i + 3)).flatten();
        match hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, target: &str, expect: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(Some(query)));
        let got = format!(
            "{}|{}|{}|{}|{}|{}|{}|{}",
            info.verb, info.group, info.version, info.namespace, info.resource, info.name, info.subresource, info.rest
        );
        assert_eq!(got, expect, "{method} {target}");
    }

    #[test]
    fn paths() {
        check("GET", "/api/v1/pods", "list||v1||pods|||");
        check("GET", "/api/v1/pods?watch=1", "watch||v1||pods|||");
        check("GET", "/api/v1/pods?watch=false", "list||v1||pods|||");
        check("GET", "/api/v1/watch/pods", "watch||v1||pods|||");
        check("GET", "/api/v1/namespaces/d/pods/x", "get||v1|d|pods|x||");
        check("HEAD", "/api/v1/namespaces/d/pods/x", "get||v1|d|pods|x||");
        check("GET", "/api/v1/namespaces", "list||v1||namespaces|||");
        check("GET", "/api/v1/namespaces/d", "get||v1|d|namespaces|d||");
        check("PUT", "/api/v1/namespaces/d/finalize", "update||v1|d|namespaces|d|finalize|");
        check("PATCH", "/api/v1/namespaces/d/status", "patch||v1|d|namespaces|d|status|");
        check("DELETE", "/api/v1/namespaces/d/pods", "deletecollection||v1|d|pods|||");
        check("DELETE", "/api/v1/namespaces/d/pods/x", "delete||v1|d|pods|x||");
        check("POST", "/apis/apps/v1/namespaces/d/deployments", "create|apps|v1|d|deployments|||");
        check("GET", "/apis/apps/v1/namespaces/d/deployments/x/scale", "get|apps|v1|d|deployments|x|scale|");
        check(
            "GET",
            "/api/v1/namespaces/d/services/https:s:1/proxy/a/b%2Fc/",
            "get||v1|d|services|https:s:1|proxy|a/b%2Fc/",
        );
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list||v1||pods|x||");
        check(
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get|rbac.authorization.k8s.io|v1||clusterroles|system:node||",
        );
        check("GET", "/healthz", "get|||||||");
        check("GET", "/api/v1", "get|||||||");
        check("GET", "/apis/apps/v1", "get|||||||");
    }
}
