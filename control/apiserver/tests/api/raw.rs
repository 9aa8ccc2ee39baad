//! Requests by hand, for what a typed client hides.

use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }
}

pub(crate) struct Call<'a> {
    client: &'a kube::Client,
    request: http::request::Builder,
    body: Vec<u8>,
}

pub(crate) fn call<'a>(client: &'a kube::Client, method: &str, path: &str) -> Call<'a> {
    Call { client, request: http::Request::builder().method(method).uri(path), body: Vec::new() }
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        let mut this = self.header("content-type", "application/json");
        this.body = body.to_string().into_bytes();
        this
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    pub(crate) async fn send(self) -> Reply {
        let request = self.request.body(Body::from(self.body)).unwrap();
        let response = self.client.send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

pub(crate) async fn get(client: &kube::Client, path: &str) -> Reply {
    call(client, "GET", path).send().await
}

pub(crate) async fn post(client: &kube::Client, path: &str, body: &Value) -> Reply {
    call(client, "POST", path).json(body).send().await
}

pub(crate) async fn put(client: &kube::Client, path: &str, body: &Value) -> Reply {
    call(client, "PUT", path).json(body).send().await
}

pub(crate) async fn delete(client: &kube::Client, path: &str, body: &Value) -> Reply {
    call(client, "DELETE", path).json(body).send().await
}
