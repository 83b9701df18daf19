//! What the API server must know of kinds. The generic server asks through its traits (authenticators, authorizers,
//! admission, connectors); what stands here answers, and may name the kinds that it reads.

pub mod access;
pub mod admission;
pub mod authn;
pub mod binding;
pub mod bootstrap;
pub mod bootstrap_token;
pub mod connect;
pub mod crd;
pub mod eviction;
#[cfg(test)]
mod fixture;
pub mod follow;
pub mod install;
pub mod lookup;
mod matching;
pub mod node;
mod pods;
pub mod policy;
pub mod rbac;
pub mod seal;
pub mod service;
pub mod token;
pub mod usage;
pub mod webhook;
