//! Somebody is told: a `Notifier` gets one message when something goes wrong, and one when it is well again.
//!
//! What is wrong is seen in objects (`sight`), by pure functions of slim views. The `ledger` of a notifier remembers what was told
//! and what waits to be; it is pure, and stands in the notifier's status, so that a restart tells nothing twice.

mod begin;
pub mod carry;
mod controller;
pub mod fact;
mod figures;
pub mod kind;
pub mod ledger;
pub mod letter;
mod secret;
mod sight;
mod watch;

pub use begin::controller;
pub use controller::Base;
