//! Custom resource definitions: each makes its resources kinds like any other, while it stands and its names are its
//! own (`apiextensions.k8s.io/v1`).

pub mod accept;
pub mod controller;
pub mod kinds;
