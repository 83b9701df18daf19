//! Selectors: which objects a list, watch or set of pods means, by labels ([`label`]) or by fields ([`mod@field`]).

pub mod field;
pub mod label;

pub use field::FieldSelector;
pub use label::LabelSelector;

/// A text or object that is no selector, with upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);
