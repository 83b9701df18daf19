//! What objects use of the quotas of their namespace (`pkg/quota/v1` upstream): the admission that charges a write and the
//! controller that counts again ask the same functions. Pure.
//!
//! What a kind counts is a [`Measure`]: pods, services, claims and device claims have their own names of amounts, everything else is
//! counted by `count/PLURAL.GROUP`.

pub mod amounts;
mod charge;
mod measure;
mod pod;
mod scope;

pub use amounts::Amounts;
pub use charge::{Refusal, charge};
pub use measure::{Change, Measure};
pub use scope::in_scopes;
