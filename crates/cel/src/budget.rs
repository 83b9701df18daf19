//! How much an expression may cost, and what else can go wrong while it runs.

use std::fmt;
use std::sync::Arc;

/// Upstream's limit of one evaluation.
pub const CALL_COST_MAX: u64 = 10_000_000;
/// Steps that cost nothing by upstream's rules and take time all the same: comparing long lists, above all.
const WORK_MAX: u64 = 10_000_000;
/// Nodes that are evaluated one inside another, over all expressions that call each other.
const DEPTH_MAX: u32 = 600;

/// Why an expression gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It cost more than one evaluation may.
    Cost,
    /// What all evaluations together may cost is used up.
    Budget,
    Failed(Arc<str>),
}

impl Error {
    pub(crate) fn new(message: impl Into<Arc<str>>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    /// Whether logical operators must not pass over it.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cost => "operation cancelled: actual cost limit exceeded",
            Self::Budget => "running out of cost budget",
            Self::Failed(message) => message,
        })
    }
}

impl std::error::Error for Error {}

/// What evaluations may still cost.
#[derive(Debug)]
pub struct Budget {
    remaining: u64,
    cost: u64,
    limit: u64,
    work: u64,
    depth: u32,
}

impl Budget {
    /// For any number of evaluations that together cost at most `total`.
    pub fn new(total: u64) -> Self {
        Self { remaining: total, cost: 0, limit: CALL_COST_MAX, work: 0, depth: 0 }
    }

    /// Another limit of one evaluation.
    #[must_use]
    pub fn with_call_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// What the newest evaluation cost.
    pub fn last_cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn begin(&mut self) {
        self.cost = 0;
    }

    /// Takes what the evaluation cost off the rest.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        match self.remaining.checked_sub(self.cost) {
            Some(rest) => {
                self.remaining = rest;
                Ok(())
            }
            None => {
                self.remaining = 0;
                Err(Error::Budget)
            }
        }
    }

    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), Error> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Error::Cost) } else { Ok(()) }
    }

    /// What one evaluation may still cost.
    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.cost)
    }

    pub(crate) fn work(&mut self, steps: usize) -> Result<(), Error> {
        self.work = self.work.saturating_add(steps as u64);
        if self.work > WORK_MAX { Err(Error::Cost) } else { Ok(()) }
    }

    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Error::Cost) } else { Ok(()) }
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }
}
