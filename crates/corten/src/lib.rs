//! The parts that the binary wires: the data directory, certificates, preflight, and the commands.

pub mod args;
pub mod datadir;
pub mod files;
pub mod pki;
pub mod preflight;
