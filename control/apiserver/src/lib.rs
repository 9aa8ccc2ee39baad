//! The API server: table-driven HTTP over one [`orlop_store::Store`].
//!
//! A request runs `authn` → `authz` → decode → `admission` → storage → encode. Nothing here is
//! written per resource except its row in `orlop_api::registry` and its strategy in `strategy`.
#![allow(dead_code)]

pub mod admission;
pub mod allocators;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod reader;
