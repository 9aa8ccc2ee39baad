//! Selectors: which objects a list, a watch, a controller or a policy means.

mod field;
mod label;

pub use field::{FieldSelector, field_value, parse_field_selector, selectable_fields};
pub use label::{LabelSelector, Operator, Requirement, labels_of, parse_label_selector, selector_from_object};

#[cfg(test)]
mod tests;

/// A selector that can't be read. The text is upstream's and goes to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);
