//! Services on this node.
//!
//! ```text
//! Service, EndpointSlice, Node watches ─► tracker ─► compile ─► ProxyState ─► plan(desired, installed)
//!                                        (objects)   (pure)     (pure)        ─► Backend::apply
//! ```
pub mod backend;
pub mod plan;
pub mod state;
