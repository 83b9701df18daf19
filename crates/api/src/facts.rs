//! The generated tables under `facts/`, read at the first use: names are slices of the embedded text, so that reading
//! them costs a pass over 220 KB and the vectors.

mod kinds;
mod types;

pub(crate) use kinds::{KindFact, KindFacts, SubresourceFact};
pub(crate) use types::read as read_types;

const TYPES: &str = include_str!("../facts/types.txt");
const KINDS: &str = include_str!("../facts/kinds.txt");

/// All types, not linked yet.
pub(crate) fn types() -> corten_apimachinery::schema::table::TypeTable {
    read_types(TYPES)
}

/// All kinds, those too that no server serves by default.
pub(crate) fn kinds() -> KindFacts {
    kinds::read(KINDS)
}
