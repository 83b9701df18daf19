//! Images on the real file system, as root: layers have owners, devices and trusted attributes.

mod hostile;
mod kills;
mod layout;
mod pull;
mod registry;
mod roots;
mod share;
mod store;
