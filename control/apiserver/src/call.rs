//! One resource request, past authentication and authorization.

use std::sync::Arc;

use http::HeaderMap;
use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;

use crate::app::App;
use crate::authn::UserInfo;
use crate::storage::{ResourceStorage, object_key};
use crate::wire::negotiate::Accepted;
use crate::wire::query::Query;
use crate::wire::request_info::RequestInfo;

/// One resource request, past authentication and authorization.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) info: RequestInfo,
    /// The version that the client speaks.
    pub(crate) row: &'static ResourceInfo,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) query: Query,
    pub(crate) accepted: Accepted,
    pub(crate) headers: HeaderMap,
}

impl Call {
    pub(crate) fn storage(&self) -> Result<&Arc<ResourceStorage>, Status> {
        self.app.storages.of(self.row).ok_or_else(Status::path_not_found)
    }

    /// The namespace, for namespaced resources.
    pub(crate) fn namespace(&self) -> Option<&str> {
        if self.row.namespaced { self.info.namespace() } else { None }
    }

    pub(crate) fn key(&self) -> String {
        object_key(self.namespace(), &self.info.name)
    }

    pub(crate) fn header(&self, name: &http::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.header(&http::header::USER_AGENT)
    }
}
