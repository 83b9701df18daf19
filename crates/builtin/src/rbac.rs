//! Role-based access control (https://kubernetes.io/docs/reference/access-authn-authz/rbac/): rule matching, an index
//! fed by watches, the authorizer, the escalation check, upstream's defaults, and aggregated cluster roles.

pub mod aggregation;
pub mod authorizer;
pub mod defaults;
pub mod escalation;
pub mod feed;
pub mod index;
pub mod rule;

pub use authorizer::{MASTERS, Rbac};
pub use index::{Index, Policy};

/// The API group of the four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";
