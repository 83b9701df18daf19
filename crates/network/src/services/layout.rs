//! What the table should hold, and what a change of services changes in it. Pure.
//!
//! Each service renders to elements, by itself; nothing is kept of that, so the difference between two states of a service is
//! the difference of two renderings. Shared by services are chains and endpoints, which are counted, and addresses that several
//! services claim, which go to the first of them by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use corten_sys::conntrack::Flow;
use corten_sys::nft::{Batch, Element, Set, Value};

use super::chain::{
    ALLOWED, At, Chain, DROP, ENDPOINTS, FIREWALL_CHECK, FIREWALLED, HAIRPIN, LOCAL_SLOTS, NODE_ENDPOINTS, NODE_PORTS,
    Pick, REJECT, SERVICES, SETS, Stick, UNSERVED, UNSERVED_NODE_PORTS, fixed, hash,
};
use super::{Policy, Protocol, Service, Settings};
use crate::Range;

/// What clients connect to; a port of the node when there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Frontend {
    pub(super) address: Option<Ipv4Addr>,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

pub(super) type Endpoint = (Ipv4Addr, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Cluster,
    External,
    Balancer,
}

/// All services and what they share.
#[derive(Debug, Default)]
pub(super) struct Layout {
    services: BTreeMap<String, Service>,
    claims: BTreeMap<Frontend, BTreeSet<String>>,
    chains: BTreeMap<Chain, usize>,
    hairpins: BTreeMap<Ipv4Addr, usize>,
}

/// What some services amount to.
#[derive(Debug, Default)]
struct Rendered {
    /// By set and key.
    elements: BTreeMap<(&'static str, Vec<u8>), Element>,
    /// One entry for every service that needs it.
    chains: Vec<Chain>,
    hairpins: Vec<Ipv4Addr>,
    /// Who sends datagrams to whom: the kernel remembers these.
    datagrams: BTreeSet<(Frontend, Endpoint)>,
}

/// What is to be changed in the table.
#[derive(Debug, Default)]
pub(super) struct Delta {
    new_chains: Vec<Chain>,
    old_chains: Vec<Chain>,
    remove: BTreeMap<&'static str, Vec<Element>>,
    add: BTreeMap<&'static str, Vec<Element>>,
    /// Flows of datagrams that have lost their endpoint.
    stale: BTreeSet<(Frontend, Endpoint)>,
    /// Frontends of datagrams that were nobody's before.
    fresh: BTreeSet<Frontend>,
}

impl Delta {
    /// Whether there may be flows that it misleads.
    pub(super) fn is_of_datagrams(&self) -> bool {
        !self.stale.is_empty() || !self.fresh.is_empty()
    }

    /// Whether the kernel would go on sending this flow to an endpoint that is gone, or to the frontend itself, which nobody answers.
    pub(super) fn misleads(&self, flow: &Flow) -> bool {
        let (address, port) = flow.first.destination;
        let misled = |frontend| {
            let is_fresh = self.fresh.contains(&frontend) && flow.answer.source == flow.first.destination;
            is_fresh || self.stale.contains(&(frontend, flow.answer.source))
        };
        flow.first.protocol == Protocol::Udp.number()
            && [Some(address), None]
                .map(|address| Frontend { address, protocol: Protocol::Udp, port })
                .into_iter()
                .any(misled)
    }
}

impl Layout {
    /// Takes services in, or out where there is none any more.
    pub(super) fn change(&mut self, changes: Vec<(String, Option<Service>)>) -> Delta {
        let affected = self.affected(&changes);
        let before = self.render(affected.iter());
        for (name, service) in changes {
            self.replace(name, service);
        }
        let after = self.render(affected.iter());
        self.delta(before, after)
    }

    pub(super) fn leads_to(&self, endpoint: Ipv4Addr) -> bool {
        self.hairpins.contains_key(&endpoint)
    }

    /// Everything, into a table that may be there or not.
    pub(super) fn rebuild(&self, settings: &Settings, batch: &mut Batch) {
        batch.replace_table();
        for set in SETS {
            batch.add_set(set);
        }
        let fixed = fixed(settings);
        for chain in &fixed {
            batch.add_chain(chain.name, chain.base);
        }
        for chain in &fixed {
            for rule in &chain.rules {
                batch.add_rule(chain.name, rule);
            }
        }
        let rendered = self.render(self.services.keys());
        let delta = Delta {
            new_chains: self.chains.keys().cloned().collect(),
            add: by_set(rendered.elements.into_iter().chain(self.hairpins.keys().map(hairpin))),
            ..Delta::default()
        };
        delta.encode(settings, batch);
    }

    /// Names and numbers of rules of all chains, and all elements.
    pub(super) fn content(&self, settings: &Settings) -> (BTreeMap<String, usize>, BTreeMap<String, Elements>) {
        let mut chains: BTreeMap<_, _> =
            fixed(settings).into_iter().map(|chain| (chain.name.to_owned(), chain.rules.len())).collect();
        chains.extend(self.chains.keys().map(|chain| (chain.name(), chain.rules(settings).len())));
        let mut sets: BTreeMap<_, Elements> =
            SETS.iter().map(|set| (set.name.to_string(), Elements::default())).collect();
        let rendered = self.render(self.services.keys());
        for ((set, key), element) in rendered.elements.into_iter().chain(self.hairpins.keys().map(hairpin)) {
            sets.entry(set.to_owned()).or_default().insert(key, element.value);
        }
        for (set, elements) in self.chains.keys().filter_map(Chain::own_set) {
            let elements = elements.into_iter().map(|element| (element.key, element.value)).collect();
            sets.insert(set.name.into_owned(), elements);
        }
        (chains, sets)
    }

    /// Those that change, and those that claim the same addresses.
    fn affected(&self, changes: &[(String, Option<Service>)]) -> BTreeSet<String> {
        let mut affected = BTreeSet::new();
        for (name, service) in changes {
            affected.insert(name.clone());
            let both = self.services.get(name).into_iter().chain(service);
            for (frontend, _) in both.flat_map(frontends) {
                affected.extend(self.claims.get(&frontend).into_iter().flatten().cloned());
            }
        }
        affected
    }

    fn replace(&mut self, name: String, service: Option<Service>) {
        let old = self.services.remove(&name);
        for (frontend, _) in old.iter().flat_map(frontends) {
            if let Some(names) = self.claims.get_mut(&frontend) {
                names.remove(&name);
                if names.is_empty() {
                    self.claims.remove(&frontend);
                }
            }
        }
        let Some(mut service) = service else { return };
        let old = old.unwrap_or_default();
        service.endpoints = arrange(&old.endpoints, &service.endpoints);
        service.local_endpoints = arrange(&old.local_endpoints, &service.local_endpoints);
        for (frontend, _) in frontends(&service) {
            self.claims.entry(frontend).or_default().insert(name.clone());
        }
        self.services.insert(name, service);
    }

    fn render<'a>(&self, names: impl Iterator<Item = &'a String>) -> Rendered {
        let mut rendered = Rendered::default();
        for name in names {
            let Some(service) = self.services.get(name) else { continue };
            let owns = |frontend: &Frontend| self.claims.get(frontend).and_then(BTreeSet::first) == Some(name);
            rendered.service(name, service, frontends(service).filter(|(frontend, _)| owns(frontend)));
        }
        rendered
    }

    fn delta(&mut self, before: Rendered, after: Rendered) -> Delta {
        let (new_chains, old_chains) = count(&mut self.chains, &before.chains, &after.chains);
        let (new_hairpins, old_hairpins) = count(&mut self.hairpins, &before.hairpins, &after.hairpins);
        let unequal = |this: &Rendered, other: &Rendered| -> Vec<_> {
            let differs =
                |(key, element): &(&(&'static str, Vec<u8>), &Element)| other.elements.get(*key) != Some(element);
            this.elements.iter().filter(differs).map(|(key, element)| (key.clone(), element.clone())).collect()
        };
        let remove = unequal(&before, &after).into_iter().chain(old_hairpins.iter().map(hairpin));
        let add = unequal(&after, &before).into_iter().chain(new_hairpins.iter().map(hairpin));
        let sent_to = |rendered: &Rendered| -> BTreeSet<Frontend> {
            rendered.datagrams.iter().map(|(frontend, _)| *frontend).collect()
        };
        Delta {
            new_chains,
            old_chains,
            remove: by_set(remove),
            add: by_set(add),
            stale: before.datagrams.difference(&after.datagrams).copied().collect(),
            fresh: sent_to(&after).difference(&sent_to(&before)).copied().collect(),
        }
    }
}

/// Values by key.
pub(super) type Elements = BTreeMap<Vec<u8>, Value>;

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        let Self { new_chains, old_chains, remove, add, .. } = self;
        new_chains.is_empty() && old_chains.is_empty() && remove.is_empty() && add.is_empty()
    }

    /// Chains come before what leads to them, and go after it.
    pub(super) fn encode(&self, settings: &Settings, batch: &mut Batch) {
        for chain in &self.new_chains {
            let name = chain.name();
            batch.add_chain(&name, None);
            if let Some((set, elements)) = chain.own_set() {
                batch.add_set(&set);
                batch.add_elements(&set, &elements);
            }
            for rule in chain.rules(settings) {
                batch.add_rule(&name, &rule);
            }
        }
        for set in SETS {
            if let Some(elements) = self.remove.get(&*set.name) {
                batch.delete_elements(set, elements);
            }
            if let Some(elements) = self.add.get(&*set.name) {
                batch.add_elements(set, elements);
            }
        }
        for chain in self.old_chains.iter().rev() {
            batch.delete_rules(&chain.name());
            if let Some((set, _)) = chain.own_set() {
                batch.delete_set(&set);
            }
            batch.delete_chain(&chain.name());
        }
    }
}

impl Rendered {
    fn service(&mut self, name: &str, service: &Service, frontends: impl Iterator<Item = (Frontend, Role)>) {
        let (mut everywhere, mut here) = (false, false);
        for (frontend, role) in frontends {
            let policy = if role == Role::Cluster { service.internal } else { service.external };
            let way = Way::of(name, service, at(&frontend), role, policy);
            everywhere |= way.everywhere;
            here |= way.here;
            self.lead(frontend, &way);
            self.fill(service, frontend, &way);
            if role == Role::Balancer {
                self.guard(service, frontend);
            }
        }
        let everywhere = everywhere.then_some(&service.endpoints);
        let used = everywhere.into_iter().chain(here.then_some(&service.local_endpoints)).flatten();
        self.hairpins.extend(used.map(|(address, _)| *address).collect::<BTreeSet<_>>());
    }

    /// The element that leads from the frontend to a chain.
    fn lead(&mut self, frontend: Frontend, way: &Way) {
        let (served, unserved) = match at(&frontend) {
            At::Address => (&SERVICES, &UNSERVED),
            At::NodePort => (&NODE_PORTS, &UNSERVED_NODE_PORTS),
        };
        let (set, chain) = match &way.to {
            To::Chain(chain) => (served, chain.name()),
            To::Reject => (unserved, REJECT.to_owned()),
            To::Drop => (unserved, DROP.to_owned()),
        };
        self.element(set, frontend_key(frontend), None, Value::Goto(chain));
        if let To::Chain(chain) = &way.to {
            self.chains.extend(chain.clone().with_those_below());
        }
    }

    /// The elements that lead from slots to endpoints.
    fn fill(&mut self, service: &Service, frontend: Frontend, way: &Way) {
        let lists = [(way.everywhere, &service.endpoints, 0), (way.here, &service.local_endpoints, LOCAL_SLOTS)];
        let set = if at(&frontend) == At::Address { &ENDPOINTS } else { &NODE_ENDPOINTS };
        for (_, list, first) in lists.into_iter().filter(|(used, ..)| *used) {
            for (slot, endpoint) in (first..).zip(list) {
                // Services that remember their clients have chains of endpoints instead.
                if service.affinity_s.is_none() {
                    let key = [frontend_key(frontend), slot.to_ne_bytes().to_vec()].concat();
                    self.element(set, key, None, Value::Data(endpoint_key(*endpoint)));
                }
                if frontend.protocol == Protocol::Udp {
                    self.datagrams.insert((frontend, *endpoint));
                }
            }
        }
    }

    fn guard(&mut self, service: &Service, frontend: Frontend) {
        if service.source_ranges.is_empty() {
            return;
        }
        let key = frontend_key(frontend);
        self.element(&FIREWALLED, key.clone(), None, Value::Goto(FIREWALL_CHECK.to_owned()));
        for range in widest(&service.source_ranges) {
            let bound = |address: Ipv4Addr| [&key[..], &address.octets()].concat();
            self.element(&ALLOWED, bound(range.first()), Some(bound(range.last())), Value::Nothing);
        }
    }

    fn element(&mut self, set: &Set, key: Vec<u8>, key_end: Option<Vec<u8>>, value: Value) {
        let whole = [key.as_slice(), key_end.as_deref().unwrap_or_default()].concat();
        self.elements.insert((name_of(set), whole), Element { key, key_end, value });
    }
}

/// Where a frontend leads, and which lists of endpoints that needs.
struct Way {
    to: To,
    everywhere: bool,
    here: bool,
}

enum To {
    Chain(Chain),
    Reject,
    Drop,
}

impl Way {
    fn of(name: &str, service: &Service, at: At, role: Role, policy: Policy) -> Self {
        let pick = |list: &[Endpoint], local| {
            let endpoints = u32::try_from(list.len()).expect("lists are cut to the slots that there are");
            let by_chance = Chain::Pick(Pick { at, local, endpoints });
            (endpoints > 0).then(|| service.affinity_s.map_or(by_chance, |seconds| sticky(name, list, seconds)))
        };
        let (all, local) = (pick(&service.endpoints, false), pick(&service.local_endpoints, true));
        let one = |to: Option<Chain>, everywhere| Self {
            to: to.map_or(To::Reject, To::Chain),
            everywhere,
            here: !everywhere,
        };
        match (policy, role, all, local) {
            (Policy::Cluster, _, all, _) => one(all, true),
            (Policy::Local, Role::Cluster, Some(_), None) => Self { to: To::Drop, everywhere: false, here: false },
            (Policy::Local, Role::Cluster, _, local) | (Policy::Local, _, None, local) => one(local, false),
            (Policy::Local, _, Some(all), local) => {
                let here = local.is_some();
                let to = To::Chain(Chain::Split(Box::new(all), local.map(Box::new)));
                Self { to, everywhere: true, here }
            }
        }
    }
}

fn sticky(name: &str, list: &[Endpoint], seconds: u32) -> Chain {
    let service = hash(&name);
    Chain::Sticky(list.iter().map(|&endpoint| Stick { service, endpoint, seconds }).collect())
}

fn at(frontend: &Frontend) -> At {
    if frontend.address.is_some() { At::Address } else { At::NodePort }
}

fn frontends(service: &Service) -> impl Iterator<Item = (Frontend, Role)> {
    let of = |address: &Ipv4Addr, role| (frontend(service, Some(*address), service.port), role);
    let cluster = service.addresses.iter().map(move |address| of(address, Role::Cluster));
    let external = service.external_addresses.iter().map(move |address| of(address, Role::External));
    let balancers = service.balancer_addresses.iter().map(move |address| of(address, Role::Balancer));
    let node = service.node_port.map(|port| (frontend(service, None, port), Role::External));
    cluster.chain(external).chain(balancers).chain(node)
}

fn frontend(service: &Service, address: Option<Ipv4Addr>, port: u16) -> Frontend {
    Frontend { address, protocol: service.protocol, port }
}

/// The wanted endpoints, those that were there before in the slots that they had, as far as that leaves no gap.
fn arrange(old: &[Endpoint], wanted: &[Endpoint]) -> Vec<Endpoint> {
    let wanted: BTreeSet<_> = wanted.iter().copied().collect();
    let kept: BTreeSet<_> = old.iter().copied().collect();
    let mut new = wanted.difference(&kept).copied();
    let mut slots: Vec<Endpoint> = Vec::with_capacity(wanted.len());
    let mut left: Vec<_> = old.to_vec();
    // Old endpoints stay where they are; gaps are filled by new ones, then by the last of the old.
    let mut slot = 0;
    while slot < left.len() {
        if wanted.contains(&left[slot]) {
            slots.push(left[slot]);
            slot += 1;
        } else if let Some(endpoint) = new.next() {
            slots.push(endpoint);
            slot += 1;
        } else {
            left.swap_remove(slot);
        }
    }
    slots.extend(new);
    slots.truncate(LOCAL_SLOTS as usize);
    slots
}

/// Ranges that are in no other one: sets of ranges refuse overlaps.
fn widest(ranges: &[Range]) -> BTreeSet<Range> {
    let within_other =
        |range: &Range| ranges.iter().any(|other| other.prefix() < range.prefix() && other.contains(range.first()));
    ranges.iter().filter(|range| !within_other(range)).copied().collect()
}

/// What has begun and what has ended to be used, by the numbers of uses before and after.
fn count<T: Ord + Clone>(uses: &mut BTreeMap<T, usize>, before: &[T], after: &[T]) -> (Vec<T>, Vec<T>) {
    let touched: BTreeSet<T> = before.iter().chain(after).cloned().collect();
    let had: BTreeSet<T> = touched.iter().filter(|item| uses.contains_key(item)).cloned().collect();
    for item in after {
        *uses.entry(item.clone()).or_default() += 1;
    }
    for item in before {
        if let Some(number) = uses.get_mut(item) {
            *number -= 1;
        }
    }
    uses.retain(|_, number| *number > 0);
    let has: BTreeSet<T> = touched.into_iter().filter(|item| uses.contains_key(item)).collect();
    (has.difference(&had).cloned().collect(), had.difference(&has).cloned().collect())
}

fn hairpin(address: &Ipv4Addr) -> ((&'static str, Vec<u8>), Element) {
    let key = [address.octets(), address.octets()].concat();
    ((name_of(&HAIRPIN), key.clone()), Element { key, key_end: None, value: Value::Nothing })
}

fn by_set(elements: impl Iterator<Item = ((&'static str, Vec<u8>), Element)>) -> BTreeMap<&'static str, Vec<Element>> {
    let mut sets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((set, _), element) in elements {
        sets.entry(set).or_default().push(element);
    }
    sets
}

/// By which changes of a set are gathered.
fn name_of(set: &Set) -> &'static str {
    SETS.iter().find(|known| known.name == set.name).map_or("", |known| known.name.as_ref())
}

/// Address, if there is one, protocol and port, each in four bytes.
fn frontend_key(frontend: Frontend) -> Vec<u8> {
    let mut key: Vec<u8> = frontend.address.iter().flat_map(Ipv4Addr::octets).collect();
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&frontend.port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

fn endpoint_key((address, port): Endpoint) -> Vec<u8> {
    let mut key = address.octets().to_vec();
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(numbers: &[u8]) -> Vec<Endpoint> {
        numbers.iter().map(|&number| (Ipv4Addr::new(10, 0, 0, number), 80)).collect()
    }

    #[test]
    fn endpoints_keep_their_slots() {
        let check = |old: &[u8], wanted: &[u8], expected: &[u8]| {
            assert_eq!(arrange(&endpoints(old), &endpoints(wanted)), endpoints(expected), "{old:?} to {wanted:?}");
        };
        check(&[], &[2, 1, 1], &[1, 2]);
        check(&[1, 2, 3], &[3, 2, 1], &[1, 2, 3]);
        check(&[1, 2, 3], &[2, 3], &[3, 2]);
        check(&[1, 2, 3], &[9, 2, 3], &[9, 2, 3]);
        check(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4]);
        check(&[1, 2, 3, 4], &[2], &[2]);
        check(&[1, 2], &[], &[]);
    }

    #[test]
    fn nested_ranges_become_the_widest() {
        let ranges = ["10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8"].map(|text| text.parse().unwrap());
        let widest: Vec<_> = widest(&ranges).iter().map(Range::to_string).collect();
        assert_eq!(widest, ["10.0.0.0/8", "11.0.0.0/8"]);
    }

    #[test]
    fn an_address_claimed_twice_is_the_first_ones_and_then_the_others() {
        let service = |number| Service {
            addresses: vec![Ipv4Addr::new(10, 96, 0, 1)],
            port: 80,
            endpoints: endpoints(&[number]),
            ..Service::default()
        };
        let mut layout = Layout::default();
        assert!(!layout.change(vec![("b".to_owned(), Some(service(2)))]).is_empty());
        let taken = layout.change(vec![("a".to_owned(), Some(service(1)))]);
        assert_eq!((taken.add["endpoints"].len(), taken.remove["endpoints"].len()), (1, 1));
        assert_eq!((taken.new_chains.len(), taken.old_chains.len()), (0, 0));
        assert!(layout.change(vec![("b".to_owned(), Some(service(3)))]).is_empty());
        let back = layout.change(vec![("a".to_owned(), None)]);
        let Value::Data(endpoint) = &back.add["endpoints"][0].value else { panic!("endpoints map to data") };
        assert_eq!(endpoint[..4], [10, 0, 0, 3]);
        layout.change(vec![("b".to_owned(), None)]);
        assert!(layout.chains.is_empty() && layout.claims.is_empty() && layout.hairpins.is_empty());
    }
}
