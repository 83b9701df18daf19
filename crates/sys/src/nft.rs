//! nf_tables, the kernel's packet filter, spoken directly: tables, chains, rules, sets and maps are changed by a [`Batch`],
//! which takes effect as a whole or not at all, and are read back by [`Filter::read`]. Needs Linux 5.13.
//!
//! Types of set keys are named, so that `nft list ruleset` prints addresses and ports as such.

mod batch;
mod expression;
mod read;

pub use batch::Batch;
pub use expression::{Expression, Register, Reject, Verdict};
pub use read::{Content, Stored};

use std::borrow::Cow;

use crate::namespace::NetNs;
use crate::netlink::{Error, Messages, Protocol, Socket};

const SUBSYSTEM: u16 = 10;
const GET_GENERATION: u16 = SUBSYSTEM << 8 | 16;
const GENERATION_ID: u16 = 1;

/// Bytes of the fixed part of every message.
const FIXED: usize = 4;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// A table by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

/// Where on a packet's way a base chain is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    /// Smaller is earlier; translation of destinations stands at -100, of sources at 100.
    pub priority: i32,
}

/// One field of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Ipv4,
    Protocol,
    Port,
    /// A number in the machine's byte order.
    Number,
}

impl Field {
    fn kind(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Number => 4,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// What a set's elements lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maps {
    Nothing,
    Verdicts,
    Values(&'static [Field]),
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: Cow<'static, str>,
    pub key: &'static [Field],
    pub maps: Maps,
    /// Keys are ranges.
    pub ranges: bool,
    /// Rules add elements, which expire; at most so many.
    pub dynamic_max: Option<u32>,
}

/// The value of an element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Nothing,
    Data(Vec<u8>),
    /// Goes on in a chain and does not come back.
    Goto(String),
}

/// An element of a set. Each field of a key takes a multiple of four bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    /// The last key of a range.
    pub key_end: Option<Vec<u8>>,
    pub value: Value,
}

/// The packet filter of a network namespace.
#[derive(Debug)]
pub struct Filter(Socket);

impl Filter {
    /// # Errors
    /// When the namespace may not be entered or the kernel has no netfilter.
    pub fn open(namespace: &NetNs) -> Result<Self, Error> {
        Socket::open(Protocol::Netfilter, namespace).map(Self)
    }

    /// Makes all changes of a batch, or none.
    ///
    /// # Errors
    /// The first refusal.
    pub fn commit(&mut self, what: &'static str, batch: Batch) -> Result<(), Error> {
        self.0.transaction(what, batch.finish())
    }

    /// Counts the changes of all tables of the namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let what = "read the packet filter's generation";
        let mut messages = Messages::new();
        messages.add(GET_GENERATION, 0, &[0; FIXED], |_| {});
        let replies = self.0.dump(what, &messages)?;
        let id = replies.iter().find_map(|reply| reply.attributes(FIXED).find(|a| a.kind == GENERATION_ID)?.be32());
        id.ok_or(Error::Short { what })
    }

    /// Everything in a table; none when there is no such table.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read(&mut self, table: &Table) -> Result<Option<Content>, Error> {
        read::read(&mut self.0, table)
    }

    /// Names of all tables.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        read::tables(&mut self.0)
    }
}
