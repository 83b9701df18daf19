//! The chains and sets of the table: which packets go where. Pure: names and rules as data.
//!
//! The layout is flat. One map says, for an address, protocol and port, how many endpoints there are, by leading to the chain
//! for that number; another one gives the endpoint for a slot chosen by chance. So the number of services does not matter to a
//! packet, and a change of one endpoint is a change of one element. Node ports have maps of their own, without the address.
//!
//! Only a service that remembers its clients has chains and sets for each of its endpoints: who is in the set goes there again.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use corten_sys::nft::{Base, ChainKind, Element, Expression, Field, Hook, Maps, Register, Reject, Set, Value, Verdict};

use super::Settings;
use super::layout::Endpoint;
use crate::Range;
use crate::packet::{
    DESTINATION, FIRST, LOCAL_TYPE, NONE, SOURCE, contains, from_localhost, frontend, hairpin, lookup, port, source,
    to_localhost, to_this_host, translate, translated, verdict, within,
};

/// Address, protocol and port.
const FRONTEND: &[Field] = &[Field::Ipv4, Field::Protocol, Field::Port];
const NODE: &[Field] = &[Field::Protocol, Field::Port];
const ENDPOINT: &[Field] = &[Field::Ipv4, Field::Port];

/// Clients that an endpoint remembers; more are balanced as if they were new.
const REMEMBERED_MAX: u32 = 65_536;

/// Where the slots of endpoints on this node begin.
pub(super) const LOCAL_SLOTS: u32 = 1 << 16;

pub(super) const SERVICES: Set = set("services", FRONTEND, Maps::Verdicts);
pub(super) const NODE_PORTS: Set = set("node-ports", NODE, Maps::Verdicts);
pub(super) const ENDPOINTS: Set =
    set("endpoints", &[Field::Ipv4, Field::Protocol, Field::Port, Field::Number], Maps::Values(ENDPOINT));
pub(super) const NODE_ENDPOINTS: Set =
    set("node-endpoints", &[Field::Protocol, Field::Port, Field::Number], Maps::Values(ENDPOINT));
/// Services that nobody serves.
pub(super) const UNSERVED: Set = set("unserved", FRONTEND, Maps::Verdicts);
pub(super) const UNSERVED_NODE_PORTS: Set = set("unserved-node-ports", NODE, Maps::Verdicts);
/// Endpoints that send to themselves through a service.
pub(super) const HAIRPIN: Set = set("hairpin", &[Field::Ipv4, Field::Ipv4], Maps::Nothing);
/// Services that only some may reach.
pub(super) const FIREWALLED: Set = set("firewalled", FRONTEND, Maps::Verdicts);
pub(super) const ALLOWED: Set = Set {
    name: Cow::Borrowed("allowed"),
    key: &[Field::Ipv4, Field::Protocol, Field::Port, Field::Ipv4],
    maps: Maps::Nothing,
    ranges: true,
    dynamic_max: None,
};

/// The sets that are always there.
pub(super) const SETS: [&Set; 9] = [
    &SERVICES,
    &NODE_PORTS,
    &ENDPOINTS,
    &NODE_ENDPOINTS,
    &UNSERVED,
    &UNSERVED_NODE_PORTS,
    &HAIRPIN,
    &FIREWALLED,
    &ALLOWED,
];

const fn set(name: &'static str, key: &'static [Field], maps: Maps) -> Set {
    Set { name: Cow::Borrowed(name), key, maps, ranges: false, dynamic_max: None }
}

/// What a packet was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum At {
    Address,
    NodePort,
}

/// A choice among endpoints by chance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) at: At,
    /// Among those of this node alone.
    pub(super) local: bool,
    pub(super) endpoints: u32,
}

/// One endpoint of a service, which remembers its clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stick {
    /// Tells services apart.
    pub(super) service: u64,
    pub(super) endpoint: Endpoint,
    pub(super) seconds: u32,
}

/// A chain that is there because some service needs it. Those come first that others lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chain {
    Stick(Stick),
    Pick(Pick),
    /// The endpoint that remembers the client, or any.
    Sticky(Vec<Stick>),
    /// The first for clients of the cluster, the second, if there is any, for those from outside.
    Split(Box<Chain>, Option<Box<Chain>>),
}

impl Chain {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Pick(Pick { at, local, endpoints }) => {
                let at = if *at == At::NodePort { "-node-port" } else { "" };
                let local = if *local { "-local" } else { "" };
                format!("pick{at}{local}-{endpoints}")
            }
            Self::Stick(stick) => stick.name("to"),
            Self::Sticky(sticks) => format!("sticky-{:016x}", hash(sticks)),
            Self::Split(inside, outside) => {
                let outside = outside.as_ref().map_or_else(|| DROP.to_owned(), |chain| chain.name());
                format!("from-inside-{}-else-{outside}", inside.name())
            }
        }
    }

    /// What this one leads to, and so on, itself last.
    pub(super) fn with_those_below(self) -> Vec<Self> {
        let mut all = match &self {
            Self::Stick(_) | Self::Pick(_) => Vec::new(),
            Self::Sticky(sticks) => sticks.iter().cloned().map(Self::Stick).collect(),
            Self::Split(inside, outside) => {
                let both = [Some(inside), outside.as_ref()].into_iter().flatten();
                both.flat_map(|chain| chain.as_ref().clone().with_those_below()).collect()
            }
        };
        all.push(self);
        all
    }

    /// A set that belongs to this chain alone, with its elements.
    pub(super) fn own_set(&self) -> Option<(Set, Vec<Element>)> {
        match self {
            Self::Stick(stick) => Some((stick.clients(), Vec::new())),
            Self::Sticky(sticks) => {
                let goto = |(slot, stick): (u32, &Stick)| Element {
                    key: slot.to_ne_bytes().to_vec(),
                    key_end: None,
                    value: Value::Goto(stick.name("to")),
                };
                Some((self.choice(), (0..).zip(sticks).map(goto).collect()))
            }
            Self::Pick(_) | Self::Split(..) => None,
        }
    }

    pub(super) fn rules(&self, settings: &Settings) -> Vec<Vec<Expression>> {
        match self {
            Self::Pick(pick) => vec![pick.rule()],
            Self::Stick(stick) => vec![stick.rule()],
            Self::Sticky(sticks) => {
                let modulus = u32::try_from(sticks.len()).expect("lists are cut to the slots that there are");
                let mut rules: Vec<_> = sticks.iter().map(Stick::again).collect();
                rules.push(vec![Expression::Random { modulus, offset: 0, into: FIRST }, verdict(&self.choice())]);
                rules
            }
            Self::Split(inside, outside) => {
                let goto = |chain: &Self| Expression::Decide(Verdict::Goto(chain.name()));
                let mut from_pod = within(SOURCE, settings.cluster_range, true);
                from_pod.push(goto(inside));
                let otherwise = outside.as_ref().map_or(Expression::Decide(Verdict::Drop), |chain| goto(chain));
                let from_here = vec![
                    Expression::SourceType { into: FIRST },
                    Expression::Compare { register: FIRST, equal: true, bytes: LOCAL_TYPE.to_vec() },
                    goto(inside),
                ];
                vec![from_pod, from_here, vec![otherwise]]
            }
        }
    }

    fn choice(&self) -> Set {
        Set { name: Cow::Owned(format!("choice-of-{}", self.name())), ..set("", &[Field::Number], Maps::Verdicts) }
    }
}

impl Pick {
    fn rule(&self) -> Vec<Expression> {
        let offset = if self.local { LOCAL_SLOTS } else { 0 };
        let (mut rule, map) = match self.at {
            At::Address => (frontend(), ENDPOINTS),
            At::NodePort => (port(), NODE_ENDPOINTS),
        };
        let slot = u32::try_from(rule.len()).expect("a frontend has three parts at most");
        rule.extend([
            Expression::Random { modulus: self.endpoints, offset, into: Register::word(slot) },
            lookup(&map, Register::word(4)),
            translate(4),
        ]);
        rule
    }
}

impl Stick {
    fn name(&self, what: &str) -> String {
        let Self { service, endpoint: (address, port), seconds } = self;
        format!("{what}-{address}-{port}-of-{service:016x}-for-{seconds}s")
    }

    fn clients(&self) -> Set {
        let name = Cow::Owned(self.name("clients"));
        Set { name, dynamic_max: Some(REMEMBERED_MAX), ..set("", &[Field::Ipv4], Maps::Nothing) }
    }

    /// Goes to this endpoint if it remembers the client.
    fn again(&self) -> Vec<Expression> {
        let goto = Expression::Decide(Verdict::Goto(self.name("to")));
        vec![source(), contains(&self.clients()), goto]
    }

    fn rule(&self) -> Vec<Expression> {
        let (address, port) = self.endpoint;
        let timeout = Duration::from_secs(self.seconds.into());
        vec![
            source(),
            Expression::Update { set: self.clients().name, key: FIRST, value: None, timeout },
            Expression::Constant { bytes: address.octets().to_vec(), into: FIRST },
            Expression::Constant { bytes: port.to_be_bytes().to_vec(), into: Register::word(1) },
            translate(0),
        ]
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

const STATE_NEW: [u8; 4] = 8_u32.to_ne_bytes();
const TCP: u8 = 6;

const DISPATCH: &str = "dispatch";
const REFUSE: &str = "refuse";
const SERVED: &str = "served";
const FIREWALL: &str = "firewall";
const UNCLAIMED: &str = "unclaimed";
/// Refuses, so that the client learns at once.
pub(super) const REJECT: &str = "reject";
/// Says nothing.
pub(super) const DROP: &str = "drop";
pub(super) const FIREWALL_CHECK: &str = FIREWALL;

/// A chain that is always there.
pub(super) struct Fixed {
    pub(super) name: &'static str,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Vec<Expression>>,
}

/// The chains that are always there, those first that others lead to.
pub(super) fn fixed(settings: &Settings) -> Vec<Fixed> {
    let chain = |name, rules| Fixed { name, base: None, rules };
    let hooked = |name, kind, hook, priority, to: &str| {
        let rules = vec![vec![Expression::Decide(Verdict::Jump(to.to_owned()))]];
        Fixed { name, base: Some(Base { kind, hook, priority }), rules }
    };
    let of_host = |name, kind, priority, to: &str, ports: &Set| {
        let mut to_localhost = to_localhost();
        to_localhost.extend(port());
        to_localhost.push(verdict(ports));
        let rules = vec![vec![Expression::Decide(Verdict::Jump(to.to_owned()))], to_localhost];
        Fixed { name, base: Some(Base { kind, hook: Hook::Output, priority }), rules }
    };
    let reverse = Base { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 };
    vec![
        chain(REJECT, reject()),
        chain(DROP, vec![vec![Expression::Decide(Verdict::Drop)]]),
        chain(SERVED, served()),
        chain(FIREWALL, firewall()),
        chain(REFUSE, refuse()),
        chain(DISPATCH, dispatch()),
        chain(UNCLAIMED, unclaimed(settings.service_range)),
        hooked("refuse-prerouting", ChainKind::Filter, Hook::Prerouting, -110, REFUSE),
        of_host("refuse-output", ChainKind::Filter, -110, REFUSE, &UNSERVED_NODE_PORTS),
        hooked("prerouting", ChainKind::Nat, Hook::Prerouting, -100, DISPATCH),
        of_host("output", ChainKind::Nat, -100, DISPATCH, &NODE_PORTS),
        hooked("unclaimed-prerouting", ChainKind::Filter, Hook::Prerouting, -90, UNCLAIMED),
        hooked("unclaimed-output", ChainKind::Filter, Hook::Output, -90, UNCLAIMED),
        Fixed { name: "postrouting", base: Some(reverse), rules: masquerade(settings) },
    ]
}

fn reject() -> Vec<Vec<Expression>> {
    let tcp = vec![
        Expression::TransportProtocol { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: vec![TCP] },
        Expression::Reject(Reject::TcpReset),
    ];
    vec![tcp, vec![Expression::Reject(Reject::PortUnreachable)]]
}

fn dispatch() -> Vec<Vec<Expression>> {
    let mut address = frontend();
    address.push(verdict(&SERVICES));
    vec![address, node_port(&NODE_PORTS)]
}

/// Of new connections alone: one that is under way may end.
fn refuse() -> Vec<Vec<Expression>> {
    let under_way = vec![
        Expression::ConnectionState { into: FIRST },
        Expression::Mask { register: FIRST, mask: STATE_NEW.to_vec() },
        Expression::Compare { register: FIRST, equal: true, bytes: NONE.to_vec() },
        Expression::Decide(Verdict::Return),
    ];
    let mut guarded = frontend();
    guarded.push(verdict(&FIREWALLED));
    vec![under_way, guarded, vec![Expression::Decide(Verdict::Goto(SERVED.to_owned()))]]
}

fn served() -> Vec<Vec<Expression>> {
    let mut unserved = frontend();
    unserved.push(verdict(&UNSERVED));
    vec![unserved, node_port(&UNSERVED_NODE_PORTS)]
}

fn firewall() -> Vec<Vec<Expression>> {
    let mut stranger = frontend();
    stranger.extend([
        Expression::NetworkHeader { offset: SOURCE, length: 4, into: Register::word(3) },
        Expression::Lookup { set: ALLOWED.name, key: FIRST, into: None, absent: true },
        Expression::Decide(Verdict::Drop),
    ]);
    vec![stranger, vec![Expression::Decide(Verdict::Goto(SERVED.to_owned()))]]
}

/// What is still addressed to a service after translation has no such port: nobody else would answer it.
fn unclaimed(services: Range) -> Vec<Vec<Expression>> {
    let mut rule = within(DESTINATION, services, true);
    rule.extend([
        Expression::DestinationType { into: FIRST },
        Expression::Compare { register: FIRST, equal: false, bytes: LOCAL_TYPE.to_vec() },
        Expression::Decide(Verdict::Goto(REJECT.to_owned())),
    ]);
    vec![rule]
}

/// Answers must come back this way: those of an endpoint to itself, and those of another node's endpoint to a client outside.
fn masquerade(settings: &Settings) -> Vec<Vec<Expression>> {
    let mut passing = translated();
    passing.extend(within(SOURCE, settings.cluster_range, false));
    passing.extend(within(DESTINATION, settings.node_range, false));
    passing.extend([
        Expression::SourceType { into: FIRST },
        Expression::Compare { register: FIRST, equal: false, bytes: LOCAL_TYPE.to_vec() },
        Expression::Masquerade,
    ]);
    vec![hairpin(&HAIRPIN), from_localhost(), passing]
}

fn node_port(set: &Set) -> Vec<Expression> {
    let mut rule = to_this_host();
    rule.extend(port());
    rule.push(verdict(set));
    rule
}
