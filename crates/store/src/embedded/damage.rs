//! What is wrong with a store's files, said so that an operator can act.

use std::fmt;

use crate::Revision;

/// Damage: where it is, what it is, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    /// Where the last good frame ends.
    pub offset: u64,
    pub what: String,
    /// The revisions that cannot be read, first and last; `None`: unknown, or none.
    pub lost: Option<(Revision, Revision)>,
}

impl Damage {
    pub(crate) fn new(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), offset, what: what.into(), lost: None }
    }

    /// Adds which revisions are lost: those after `known` and before `next`.
    pub(crate) fn losing(mut self, known: Revision, next: Revision) -> Self {
        self.lost = (known + 1 < next).then(|| (known + 1, next - 1));
        self
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, what, lost } = self;
        write!(f, "file {file:?} at offset {offset}: {what}")?;
        match lost {
            Some((first, last)) => write!(f, "; revisions {first} to {last} are lost"),
            None => Ok(()),
        }
    }
}
