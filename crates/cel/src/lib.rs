//! The Common Expression Language as Kubernetes speaks it.
//!
//! An `Environment` says what an expression may speak of; it compiles a text into a `Program`, or says what is wrong with it, in
//! the words of the reference implementation; a program is evaluated over an `Activation`, within a `Budget`. Nothing here
//! reaches a file, a socket or a clock, and nothing that a stranger writes runs without bound: text, nesting, types, cost and
//! work have limits with names.

pub mod admission;
mod ast;
mod budget;
mod check;
mod cost;
mod environment;
mod evaluate;
mod issue;
mod lex;
mod library;
mod parse;
mod program;
mod shape;
mod types;
mod value;

pub use budget::{Budget, CALL_COST_MAX, Error};
pub use environment::Environment;
pub use evaluate::Activation;
pub use issue::{Issue, describe};
pub use library::authorizer::{Authorizer, Caller, Decision, Question, ResourceCheck};
pub use program::Program;
pub use shape::{ListKind, Object, Property, Shape};
pub use types::Type;
pub use value::{Key, List, Map, Struct, Text, Value};
