//! The translator: what the API says of Services, EndpointSlices, Ingresses and Nodes becomes the plain configuration of this node's
//! kernel and edge. Each part is a pure function of what the caches hold, run again when something that it reads has changed.

pub mod balancer;
pub mod ingress;
pub mod peers;
pub mod services;
pub mod view;
pub mod zones;
