//! Kubernetes API conventions without I/O: what resources exist, how their objects are defaulted,
//! validated, patched, selected and printed. Everything works on `serde_json::Value` objects.

pub mod apply;
pub mod discovery;
pub mod field;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod registry;
pub mod schema;
pub mod status;
pub mod strict;
pub mod defaults;
pub mod quantity;
pub mod resources;
pub mod selector;
pub mod table;
pub mod validation;
