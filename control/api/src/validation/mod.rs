//! Validation of objects, in upstream words.

pub mod content;
