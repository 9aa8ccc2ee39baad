//! `/openapi/v2` and `/openapi/v3`.

use http::HeaderMap;
use orlop_api::status::Status;

use crate::wire::Response;
use crate::wire::query::Query;

pub(crate) fn serve(_rest: &[&str], _query: &Query, _headers: &HeaderMap) -> Result<Response, Status> {
    Err(Status::path_not_found())
}
