//! Services in the kernel's packet filter: whoever connects to a service's address is sent to one of its endpoints.
//!
//! [`Services`] owns one table, `corten-<instance>`. A change of services is one transaction; if the kernel refuses it, because
//! somebody else has meddled with the table, the whole table is written anew, in one transaction too. The table stands by
//! itself: nothing of this process is needed for connections. For now it is IPv4 alone; the other family would be a second
//! layout in a second table.

mod chain;
mod layout;

use std::net::Ipv4Addr;

use corten_sys::conntrack::Tracking;
use corten_sys::namespace::NetNs;
use corten_sys::netlink;
use corten_sys::nft::{Batch, Content, Family, Filter, Table};

pub use crate::Protocol;
use crate::{NetworkError, Range, could_not};
use layout::{Delta, Layout};

/// Which endpoints are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    Cluster,
    /// Those on this node. The clients of a cluster are sent everywhere nevertheless when they use an outside address.
    Local,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Inside the cluster.
    pub addresses: Vec<Ipv4Addr>,
    /// Addresses of the outside that lead here.
    pub external_addresses: Vec<Ipv4Addr>,
    /// Addresses that a load balancer has given; `source_ranges` holds for them.
    pub balancer_addresses: Vec<Ipv4Addr>,
    pub protocol: Protocol,
    pub port: u16,
    /// A port of every address of the node.
    pub node_port: Option<u16>,
    pub internal: Policy,
    /// For all addresses but those inside the cluster.
    pub external: Policy,
    /// A client that comes again within so many seconds is sent to the same endpoint.
    pub affinity_s: Option<u32>,
    /// Who may use the load balancer's addresses; everybody when empty.
    pub source_ranges: Vec<Range>,
    /// Addresses and ports to choose from, in no order.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
    /// Those on this node.
    pub local_endpoints: Vec<(Ipv4Addr, u16)>,
}

/// What the services of a node need to know.
#[derive(Debug)]
pub struct Settings {
    /// Tells tables of instances on one server apart.
    pub instance: String,
    /// The addresses of all pods: clients of the cluster.
    pub cluster_range: Range,
    /// The addresses of this node's pods.
    pub node_range: Range,
    /// The addresses of services. What is sent to one that no service claims is refused.
    pub service_range: Range,
    pub host: NetNs,
}

/// The services of a node.
#[derive(Debug)]
pub struct Services {
    settings: Settings,
    table: Table,
    filter: Filter,
    tracking: Tracking,
    layout: Layout,
    /// The table is as the layout says, as far as is known.
    written: bool,
}

impl Services {
    /// Changes nothing yet: a table of an earlier process goes on.
    ///
    /// # Errors
    /// When the namespace may not be entered or the kernel has no packet filter.
    pub fn open(settings: Settings) -> Result<Self, NetworkError> {
        let failed = |error: netlink::Error| could_not("open the packet filter", &error);
        Ok(Self {
            table: table(&settings.instance),
            filter: Filter::open(&settings.host).map_err(failed)?,
            tracking: Tracking::open(&settings.host).map_err(failed)?,
            layout: Layout::default(),
            written: false,
            settings,
        })
    }

    /// Takes in services that are new or different, by a name of the caller's choice, and out those that are none any more. The
    /// first call writes the whole table.
    ///
    /// # Errors
    /// When the kernel refuses even the whole table; the next call tries again.
    pub fn change(&mut self, changes: Vec<(String, Option<Service>)>) -> Result<(), NetworkError> {
        let delta = self.layout.change(changes);
        if !self.written {
            self.rebuild()?;
        } else if !delta.is_empty() {
            let mut batch = Batch::new(&self.table);
            delta.encode(&self.settings, &mut batch);
            if let Err(error) = self.filter.commit("change services", batch) {
                tracing::warn!(%error, table = self.table.name, "the packet filter is not as it was left; writing it anew");
                self.rebuild()?;
            }
        }
        self.forget(&delta).map_err(|error| could_not("forget flows of endpoints that are gone", &error))
    }

    /// Whether new connections are sent to this address.
    pub fn leads_to(&self, endpoint: Ipv4Addr) -> bool {
        self.layout.leads_to(endpoint)
    }

    /// Writes the whole table in one transaction.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rebuild(&mut self) -> Result<(), NetworkError> {
        self.written = false;
        let mut batch = Batch::new(&self.table);
        self.layout.rebuild(&self.settings, &mut batch);
        self.filter.commit("write services", batch).map_err(|error| could_not("write the services' table", &error))?;
        self.written = true;
        Ok(())
    }

    /// Compares the kernel's table with what it should be, and says what differs; writes it anew if something does.
    ///
    /// # Errors
    /// When the kernel does not tell, or refuses.
    pub fn check(&mut self) -> Result<Vec<String>, NetworkError> {
        let differences = self.differences()?;
        if !differences.is_empty() {
            self.rebuild()?;
        }
        Ok(differences)
    }

    /// The kernel's table.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read(&mut self) -> Result<Option<Content>, NetworkError> {
        self.filter.read(&self.table).map_err(|error| could_not("read the services' table", &error))
    }

    fn differences(&mut self) -> Result<Vec<String>, NetworkError> {
        let Some(found) = self.read()? else { return Ok(vec!["the table is missing".to_owned()]) };
        let (chains, sets) = self.layout.content(&self.settings);
        let rules = found.chains.iter().map(|(name, rules)| (name.clone(), rules.len())).collect();
        let mut differences = Vec::new();
        if chains != rules {
            differences.push("the chains differ".to_owned());
        }
        for (name, elements) in &sets {
            if found.sets.get(name) != Some(elements) {
                differences.push(format!("the set {name} differs"));
            }
        }
        Ok(differences)
    }

    /// Clients of datagrams would go on sending where they were sent before.
    fn forget(&mut self, delta: &Delta) -> Result<(), netlink::Error> {
        if !delta.is_of_datagrams() {
            return Ok(());
        }
        let flows = self.tracking.list(|flow| delta.misleads(flow))?;
        flows.iter().try_for_each(|flow| self.tracking.forget(flow))
    }
}

/// Removes the table of an instance, if there is one.
///
/// # Errors
/// When the kernel refuses.
pub fn purge(instance: &str, host: &NetNs) -> Result<(), NetworkError> {
    let mut batch = Batch::new(&table(instance));
    batch.delete_table();
    let removed = Filter::open(host).and_then(|mut filter| filter.commit("remove services", batch));
    removed.map_err(|error| could_not("remove the services' table", &error))
}

fn table(instance: &str) -> Table {
    Table { family: Family::Ipv4, name: format!("corten-{instance}") }
}
