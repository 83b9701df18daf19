//! The address of cluster DNS, on this node's loopback: queries end here by ordinary routing, without translation. It is noted
//! in the data directory before it is made, so that purge knows what to take away.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context as _;
use corten_sys::namespace::NetNs;
use corten_sys::route::{Address, Change, Routing};
use rustix::io::Errno;

use crate::datadir::DataDir;
use crate::files::{read_if_there, write_private};

/// Below the data directory.
const NOTE: &str = "network/dns-address";

/// Puts the address on loopback; one that is there stays.
///
/// # Errors
/// When the kernel refuses.
pub fn add(dir: &DataDir, address: Ipv4Addr) -> anyhow::Result<()> {
    let note = dir.join(NOTE);
    std::fs::create_dir_all(dir.join("network")).context("the folder of the network")?;
    write_private(&note, format!("{address}\n").as_bytes())?;
    let (mut routing, loopback) = loopback()?;
    let add = Change::AddAddress(Address { link: loopback, address: IpAddr::V4(address), prefix: 32 });
    routing.apply("add the address of cluster DNS", &[add]).context("cluster DNS needs root")
}

/// Takes the address that is noted in a data directory off loopback.
///
/// # Errors
/// When the kernel refuses, or the note cannot be read.
pub fn remove(data_dir: &Path) -> anyhow::Result<()> {
    let note = data_dir.join(NOTE);
    let Some(text) = read_if_there(&note)? else { return Ok(()) };
    let address = text.trim().parse().with_context(|| format!("{} holds no address", note.display()))?;
    let (mut routing, loopback) = loopback()?;
    let delete = Change::DeleteAddress(Address { link: loopback, address, prefix: 32 });
    match routing.apply("remove the address of cluster DNS", &[delete]) {
        // It was noted and never made.
        Err(error) if error.errno() == Some(Errno::ADDRNOTAVAIL) => Ok(()),
        other => Ok(other?),
    }
}

fn loopback() -> anyhow::Result<(Routing, u32)> {
    let mut routing = Routing::open(&NetNs::current().context("the network of this server")?)?;
    let link = routing.links()?.into_iter().find(|link| link.loopback).context("this server has no loopback")?;
    Ok((routing, link.index))
}
