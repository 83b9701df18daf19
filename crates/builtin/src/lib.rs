//! What the API server must know of kinds. The generic server asks through its traits (authenticators, authorizers,
//! admission, connectors); what stands here answers, and may name the kinds that it reads.

pub mod authn;
pub mod rbac;
pub mod seal;
