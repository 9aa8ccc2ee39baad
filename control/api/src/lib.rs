//! Kubernetes API conventions without I/O: what resources exist, how their objects are defaulted,
//! validated, patched, selected and printed. Everything works on `serde_json::Value` objects.
//!
//! ```text
//! body ─► strict ─► defaults ─► validation ─► stored object ─► table, selector, discovery, openapi
//!           ▲                                    │
//!           └───────── patch, apply ◄────────────┘
//! ```
//! `registry` says which kinds there are, `schema` what fields they have; everything else reads those two.
//! Errors are `field::FieldError`s gathered into one `status::Status`.

pub mod apply;
pub mod defaults;
pub mod discovery;
pub mod field;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod registry;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strict;
pub mod table;
pub mod validation;
