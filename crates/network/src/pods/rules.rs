//! The pods' table of the packet filter, `corten-<instance>-pods`: what leaves the cluster does so with the node's address, ports
//! of the node lead to pods that ask for them, a pod cannot send in another's name, and what is sent to a pod that is gone is
//! answered with a reset. Only ports of the node are elements, and the kernel is their record as it is that of the links; the
//! rest holds for all pods at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use corten_sys::netlink;
use corten_sys::nft::{
    Base, Batch, ChainKind, Content, Element, Expression, Family, Field, Filter, Hook, Maps, Register, Reject, Set,
    Table, Value, Verdict,
};

use crate::packet::{
    DESTINATION, FIRST, LOCAL_TYPE, NONE, SOURCE, from_localhost, frontend, hairpin, is_loopback, lookup, port,
    to_localhost, to_this_host, translate, within,
};
use crate::{HostPort, Protocol, Range};

const ENDPOINT: &[Field] = &[Field::Ipv4, Field::Port];
/// Of any address of the node.
const PORTS: Set = map("ports", &[Field::Protocol, Field::Port]);
/// Of one address.
const PORTS_AT: Set = map("ports-at", &[Field::Ipv4, Field::Protocol, Field::Port]);
const HAIRPIN: Set = Set {
    name: Cow::Borrowed("hairpin"),
    key: &[Field::Ipv4, Field::Ipv4],
    maps: Maps::Nothing,
    ranges: false,
    dynamic_max: None,
};

const fn map(name: &'static str, key: &'static [Field]) -> Set {
    Set { name: Cow::Borrowed(name), key, maps: Maps::Values(ENDPOINT), ranges: false, dynamic_max: None }
}

/// The elements of one pod, by set.
type Elements = Vec<(&'static Set, Element)>;

/// By name.
static SETS: [Set; 3] = [HAIRPIN, PORTS, PORTS_AT];

/// The table and what is in it for each pod.
#[derive(Debug)]
pub(super) struct Rules {
    filter: Filter,
    table: Table,
    /// What makes the table, until it is written.
    unwritten: Option<Batch>,
    by_pod: BTreeMap<Ipv4Addr, Elements>,
}

impl Rules {
    /// Writes the table anew, with the ports of those pods that are still there; a node without pods has none before the first.
    pub(super) fn open(
        mut filter: Filter,
        instance: &str,
        node_range: Range,
        cluster_range: Range,
        pods: &BTreeSet<Ipv4Addr>,
    ) -> Result<Self, netlink::Error> {
        let table = table(instance);
        let found = filter.read(&table)?;
        let needed = found.is_some() || !pods.is_empty();
        let by_pod = known(&found.unwrap_or_default());
        let mut rules = Self { filter, table, unwritten: None, by_pod };
        rules.by_pod.retain(|address, _| pods.contains(address));
        let mut batch = Batch::new(&rules.table);
        batch.replace_table();
        for set in &SETS {
            batch.add_set(set);
        }
        for (name, base, lines) in chains(instance, node_range, cluster_range) {
            batch.add_chain(name, Some(base));
            for line in lines {
                batch.add_rule(name, &line);
            }
        }
        for (set, element) in rules.by_pod.values().flatten() {
            batch.add_elements(set, [element]);
        }
        rules.unwritten = Some(batch);
        if needed {
            rules.ensure()?;
        }
        Ok(rules)
    }

    /// Writes the table if it is not there yet.
    pub(super) fn ensure(&mut self) -> Result<(), netlink::Error> {
        let Some(batch) = &self.unwritten else { return Ok(()) };
        self.filter.commit("write the pods' table", batch.clone())?;
        self.unwritten = None;
        Ok(())
    }

    /// Lets these ports of the node, and no others, lead to the pod.
    pub(super) fn publish(&mut self, pod: Ipv4Addr, ports: &[HostPort]) -> Result<(), netlink::Error> {
        let wanted = elements(pod, ports);
        let had = self.by_pod.get(&pod).cloned().unwrap_or_default();
        if had == wanted {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        for (set, element) in &had {
            batch.delete_elements(set, [element]);
        }
        for (set, element) in &wanted {
            batch.add_elements(set, [element]);
        }
        self.filter.commit("lead ports of the node to a pod", batch)?;
        if wanted.is_empty() {
            self.by_pod.remove(&pod);
        } else {
            self.by_pod.insert(pod, wanted);
        }
        Ok(())
    }
}

/// Removes the table, if there is one.
pub(super) fn purge(mut filter: Filter, instance: &str) -> Result<(), netlink::Error> {
    let mut batch = Batch::new(&table(instance));
    batch.delete_table();
    filter.commit("remove the pods' table", batch)
}

fn table(instance: &str) -> Table {
    Table { family: Family::Ipv4, name: format!("corten-{instance}-pods") }
}

fn chains(instance: &str, node_range: Range, cluster_range: Range) -> [(&'static str, Base, Vec<Vec<Expression>>); 5] {
    let base = |kind, hook, priority| Base { kind, hook, priority };
    let mut leaving = within(SOURCE, node_range, true);
    leaving.extend(within(DESTINATION, cluster_range, false));
    leaving.push(Expression::Masquerade);
    // Before services: a port of the node belongs to the pod that was given it.
    [
        ("authentic", base(ChainKind::Filter, Hook::Prerouting, -300), authentic(instance)),
        // After translation.
        ("vacant", base(ChainKind::Filter, Hook::Prerouting, -90), vec![vacant(cluster_range)]),
        ("prerouting", base(ChainKind::Nat, Hook::Prerouting, -101), to_ports()),
        ("output", base(ChainKind::Nat, Hook::Output, -101), [to_ports(), localhost_to_ports()].concat()),
        (
            "postrouting",
            base(ChainKind::Nat, Hook::Postrouting, 99),
            vec![hairpin(&HAIRPIN), from_localhost(), leaving],
        ),
    ]
}

/// Drops what comes by a pod's link with an address that no route leads back to by that link, and what is sent to a loopback:
/// such a link passes it on, for the answers to connections from 127.0.0.1, which are translated back after this.
fn authentic(instance: &str) -> Vec<Vec<Expression>> {
    let by_pods_link = || {
        vec![
            Expression::InputLink { into: FIRST },
            Expression::Compare { register: FIRST, equal: true, bytes: format!("c{instance}").into_bytes() },
        ]
    };
    let mut forged = by_pods_link();
    forged.extend([
        Expression::ReverseLink { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: NONE.to_vec() },
        Expression::Decide(Verdict::Drop),
    ]);
    let mut to_loopback = by_pods_link();
    to_loopback.extend(is_loopback(DESTINATION));
    to_loopback.push(Expression::Decide(Verdict::Drop));
    vec![forged, to_loopback]
}

/// Resets connections to addresses of the cluster's range that no link leads to: no pod here has them, and no other server. The
/// route there is unreachable; but the message that the kernel sends for that does not end a connection that stood already.
fn vacant(cluster_range: Range) -> Vec<Expression> {
    let mut rule = vec![
        Expression::TransportProtocol { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: vec![Protocol::Tcp.number()] },
    ];
    rule.extend(within(DESTINATION, cluster_range, true));
    rule.extend([
        Expression::LinkAhead { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: NONE.to_vec() },
        Expression::DestinationType { into: FIRST },
        Expression::Compare { register: FIRST, equal: false, bytes: LOCAL_TYPE.to_vec() },
        Expression::Reject(Reject::TcpReset),
    ]);
    rule
}

fn to_ports() -> Vec<Vec<Expression>> {
    ports_of(to_this_host)
}

fn localhost_to_ports() -> Vec<Vec<Expression>> {
    ports_of(to_localhost)
}

fn ports_of(destination: fn() -> Vec<Expression>) -> Vec<Vec<Expression>> {
    let rule = |key: Vec<Expression>, set: &Set| {
        let mut rule = destination();
        rule.extend(key);
        rule.extend([lookup(set, Register::word(4)), translate(4)]);
        rule
    };
    vec![rule(frontend(), &PORTS_AT), rule(port(), &PORTS)]
}

fn elements(pod: Ipv4Addr, ports: &[HostPort]) -> Elements {
    let element = |set, key, value| (set, Element { key, key_end: None, value });
    let mut elements: Elements = Vec::new();
    for HostPort { address, protocol, port, to } in ports {
        let mut key: Vec<u8> = address.iter().flat_map(Ipv4Addr::octets).collect();
        key.extend_from_slice(&[protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&[port.to_be_bytes(), [0; 2]].concat());
        let value = Value::Data([&pod.octets()[..], &to.to_be_bytes(), &[0; 2]].concat());
        let set = if address.is_some() { &SETS[2] } else { &SETS[1] };
        if !elements.iter().any(|(known, element)| known.name == set.name && element.key == key) {
            elements.push(element(set, key, value));
        }
    }
    if !elements.is_empty() {
        elements.push(element(&SETS[0], [pod.octets(), pod.octets()].concat(), Value::Nothing));
    }
    elements.sort_by_cached_key(|(set, element)| (set.name.clone(), element.key.clone()));
    elements
}

/// Which pod has which elements, as the kernel has it.
fn known(content: &Content) -> BTreeMap<Ipv4Addr, Elements> {
    let mut by_pod: BTreeMap<Ipv4Addr, Elements> = BTreeMap::new();
    for set in &SETS {
        for (key, value) in content.sets.get(&*set.name).into_iter().flatten() {
            let pod = match value {
                Value::Data(endpoint) => endpoint,
                Value::Nothing | Value::Goto(_) => key,
            };
            let Some(pod) = pod.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)) else { continue };
            let element = Element { key: key.clone(), key_end: None, value: value.clone() };
            by_pod.entry(pod).or_default().push((set, element));
        }
    }
    by_pod
}
