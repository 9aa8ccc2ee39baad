//! The API server: table-driven HTTP over one [`orlop_store::Store`].
//!
//! A request runs `authn` → `authz` → decode → `admission` → storage → encode. Nothing here is
//! written per resource except its row in `orlop_api::registry` and its strategy in `strategy`.
//!
//! ```text
//! serving (TLS, HTTP) ┐
//!                     ├─► dispatch ─► verbs, subresources ─► storage ─► Store
//! client (in process) ┘        │                               └─ cache ◄─ one watch per resource
//!                              └─► node_proxy ─► kubelets, pods
//! ```

pub mod admission;
pub mod allocators;
mod app;
pub mod authn;
pub mod authz;
pub mod bootstrap;
mod call;
mod config;
mod convert;
mod dispatch;
mod documents;
mod errors;
mod health;
mod managed;
mod meta;
mod metrics;
mod node_proxy;
mod openapi;
mod pki;
pub mod reader;
mod scheme;
mod server;
mod serving;
mod storage;
mod strategy;
mod subresources;
mod transform;
mod verbs;
mod wire;

pub use config::{
    ApiServerConfig, KubeletClientOptions, Limits, RequestHeaderOptions, ServiceAccountOptions, SharedRegistry,
    StartError,
};
pub use documents::GIT_VERSION;
pub use server::ApiServer;
