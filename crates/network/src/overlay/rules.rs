//! The table of the packet filter for the way to other servers, `corten-<instance>-overlay`.
//!
//! Whoever could send datagrams of the overlay would speak to pods in the name of any other pod. So they are taken from the other
//! servers alone, and pods may not send them: to other servers those would come from this one. What was inside must have a
//! sender that the link leads back to, and a pod of this node as receiver. What leaves by the link in the name of somebody outside
//! the cluster leaves in this node's name, so that answers come back the same way. The datagrams themselves belong to no connection:
//! they have so many ports that they would fill the kernel's table of those.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use corten_sys::netlink;
use corten_sys::nft::{
    Base, Batch, ChainKind, Content, Element, Expression, Family, Field, Filter, Hook, Maps, Set, Table, Value, Verdict,
};
use corten_sys::route::{LINK_NAME_MAX, Vxlan};

use super::Settings;
use crate::packet::{DESTINATION, FIRST, NONE, SOURCE, source, translated, within};
use crate::{Protocol, Range};

/// Addresses of the other servers.
const PEERS: Set =
    Set { name: Cow::Borrowed("peers"), key: &[Field::Ipv4], maps: Maps::Nothing, ranges: false, dynamic_max: None };

/// Offsets from the UDP header: its port, and the number of the network in the header that follows.
const PORT_AT: u32 = 2;
const NUMBER_AT: u32 = 8 + 4;

type Chain = (&'static str, Base, Vec<Vec<Expression>>);

#[derive(Debug)]
pub(super) struct Rules {
    filter: Filter,
    table: Table,
    chains: Vec<Chain>,
    /// What is found is not to be trusted.
    anew: bool,
}

impl Rules {
    pub(super) fn new(filter: Filter, settings: &Settings, link: &Vxlan) -> Self {
        let chains = chains(link, settings.node_range, settings.cluster_range);
        Self { filter, table: table(&settings.instance), chains, anew: false }
    }

    /// Lets the whole table be written next time.
    pub(super) fn forget(&mut self) {
        self.anew = true;
    }

    /// Takes datagrams from these servers alone; says what was different.
    pub(super) fn set(&mut self, peers: &BTreeSet<Ipv4Addr>) -> Result<Option<String>, netlink::Error> {
        let found = self.filter.read(&self.table)?.filter(|found| !self.anew && self.is_like(found));
        let Some(found) = found else {
            self.filter.commit("write the overlay's table", self.whole(peers))?;
            self.anew = false;
            return Ok(Some(format!("the table {}", self.table.name)));
        };
        let had: BTreeSet<Ipv4Addr> = found.sets.get(&*PEERS.name).into_iter().flatten().filter_map(address).collect();
        if had == *peers {
            return Ok(None);
        }
        let mut batch = Batch::new(&self.table);
        batch.delete_elements(&PEERS, &elements(had.difference(peers)));
        batch.add_elements(&PEERS, &elements(peers.difference(&had)));
        self.filter.commit("change the other servers", batch)?;
        Ok(Some("the set peers".to_owned()))
    }

    /// Removes the table, if there is one.
    pub(super) fn remove(&mut self) -> Result<(), netlink::Error> {
        remove(&mut self.filter, &self.table)
    }

    /// As far as can be told without reading rules.
    fn is_like(&self, found: &Content) -> bool {
        let count = |rules: &Vec<_>| rules.len();
        let found_rules: BTreeMap<&str, usize> =
            found.chains.iter().map(|(name, rules)| (name.as_str(), rules.len())).collect();
        let rules: BTreeMap<&str, usize> = self.chains.iter().map(|(name, _, rules)| (*name, count(rules))).collect();
        rules == found_rules && found.sets.keys().eq([&*PEERS.name])
    }

    fn whole(&self, peers: &BTreeSet<Ipv4Addr>) -> Batch {
        let mut batch = Batch::new(&self.table);
        batch.replace_table();
        batch.add_set(&PEERS);
        for (name, base, rules) in &self.chains {
            batch.add_chain(name, Some(*base));
            for rule in rules {
                batch.add_rule(name, rule);
            }
        }
        batch.add_elements(&PEERS, &elements(peers.iter()));
        batch
    }
}

/// Removes the table of an instance, if there is one.
pub(super) fn purge(mut filter: Filter, instance: &str) -> Result<(), netlink::Error> {
    remove(&mut filter, &table(instance))
}

fn remove(filter: &mut Filter, table: &Table) -> Result<(), netlink::Error> {
    let mut batch = Batch::new(table);
    batch.delete_table();
    filter.commit("remove the overlay's table", batch)
}

fn table(instance: &str) -> Table {
    Table { family: Family::Ipv4, name: format!("corten-{instance}-overlay") }
}

fn elements<'a>(addresses: impl Iterator<Item = &'a Ipv4Addr>) -> Vec<Element> {
    let element = |address: &Ipv4Addr| Element { key: address.octets().to_vec(), key_end: None, value: Value::Nothing };
    addresses.map(element).collect()
}

fn address((key, _): (&Vec<u8>, &Value)) -> Option<Ipv4Addr> {
    key.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn chains(link: &Vxlan, node_range: Range, cluster_range: Range) -> Vec<Chain> {
    let base = |kind, hook, priority| Base { kind, hook, priority };
    let dropped = |questions: &[Vec<Expression>]| {
        let mut rule = questions.concat();
        rule.push(Expression::Decide(Verdict::Drop));
        rule
    };
    let ours = || wrapped(link);
    let untracked = || vec![[ours(), vec![Expression::Untrack]].concat()];
    let by_link = || is_named(Expression::InputLink { into: FIRST }, link);
    let mut outgoing = is_named(Expression::OutputLink { into: FIRST }, link);
    outgoing.extend(within(SOURCE, cluster_range, false));
    outgoing.push(Expression::Masquerade);
    vec![
        ("arriving", base(ChainKind::Filter, Hook::Prerouting, -300), untracked()),
        ("leaving", base(ChainKind::Filter, Hook::Output, -300), untracked()),
        // Where datagrams are whole again that were cut on their way.
        ("wrapped", base(ChainKind::Filter, Hook::Input, -300), vec![dropped(&[ours(), stranger()])]),
        (
            "wrapping",
            base(ChainKind::Filter, Hook::Forward, -300),
            vec![dropped(&[ours(), within(SOURCE, cluster_range, true)]), dropped(&[ours(), translated()])],
        ),
        (
            "inside",
            base(ChainKind::Filter, Hook::Prerouting, -300),
            vec![dropped(&[by_link(), no_way_back()]), dropped(&[by_link(), within(DESTINATION, node_range, false)])],
        ),
        // Before those of pods and services, which give the same address where they give any.
        ("postrouting", base(ChainKind::Nat, Hook::Postrouting, 98), vec![outgoing]),
    ]
}

/// Goes on if the packet is a datagram of this overlay.
fn wrapped(link: &Vxlan) -> Vec<Expression> {
    let equal = |bytes: Vec<u8>| Expression::Compare { register: FIRST, equal: true, bytes };
    vec![
        Expression::TransportProtocol { into: FIRST },
        equal(vec![Protocol::Udp.number()]),
        Expression::TransportHeader { offset: PORT_AT, length: 2, into: FIRST },
        equal(link.port.to_be_bytes().to_vec()),
        Expression::TransportHeader { offset: NUMBER_AT, length: 3, into: FIRST },
        equal(link.number.to_be_bytes()[1..].to_vec()),
    ]
}

/// Goes on if the sender is none of the other servers.
fn stranger() -> Vec<Expression> {
    vec![source(), Expression::Lookup { set: PEERS.name, key: FIRST, into: None, absent: true }]
}

/// Goes on if no route leads back to the sender by the link that the packet came by.
fn no_way_back() -> Vec<Expression> {
    vec![
        Expression::ReverseLink { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: NONE.to_vec() },
    ]
}

/// Goes on if it is this link.
fn is_named(which: Expression, link: &Vxlan) -> Vec<Expression> {
    let mut name = link.name.clone().into_bytes();
    name.resize(LINK_NAME_MAX + 1, 0);
    vec![which, Expression::Compare { register: FIRST, equal: true, bytes: name }]
}
