//! What control asks of the kernel. Plans are data (paths and values); carrying one out is a call of its own.

pub mod cgroup;
pub mod conntrack;
pub mod loop_device;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod route;
pub mod sockets;
