//! The parts that the binary wires: the data directory, certificates, the API server, and the commands.

pub mod api;
pub mod args;
pub mod certificates;
pub mod controllers;
pub mod datadir;
pub mod demo;
pub mod dial;
pub mod edge;
pub mod files;
pub mod image;
pub mod inside;
pub mod keys;
pub mod kubeconfig;
pub mod network;
pub mod node;
pub mod pki;
pub mod preflight;
pub mod progress;
pub mod purge;
pub mod ranges;
pub mod reach;
pub mod site;
pub mod store;
pub mod token_keys;
pub mod up;
