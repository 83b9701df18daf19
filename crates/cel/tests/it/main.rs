//! Expressions from outside: the language's own conformance tests, tables of results, complaints and costs, and hostile input.

mod costs;
mod hostile;
mod results;
mod specification;
mod textproto;
mod wording;
