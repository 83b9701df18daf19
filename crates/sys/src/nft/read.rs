//! Reads a table back, to compare it with what it should be.

use std::collections::BTreeMap;

use super::{FIXED, Family, SUBSYSTEM, Table, Value};
use crate::netlink::{Attribute, Error, Messages, Reply, Socket};

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;

const DUMP: u16 = 0x300;

/// A verdict that goes on in a chain, as the kernel numbers it.
const GOTO: i32 = -4;

/// What is in a table, without the handles that the kernel numbers it by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Chains with their rules, each rule as the kernel prints its expressions.
    pub chains: BTreeMap<String, Vec<Vec<u8>>>,
    /// Sets with their elements; those that rules have added are left out, as they come and go.
    pub sets: BTreeMap<String, Stored>,
}

/// Elements by key. Of ranges, the last key follows the first.
pub type Stored = BTreeMap<Vec<u8>, Value>;

pub(super) fn tables(socket: &mut Socket) -> Result<Vec<Table>, Error> {
    let replies = dump(socket, "list the packet filter's tables", GET_TABLE, 0, |_| {})?;
    let named = replies.iter().filter_map(|reply| {
        let family = match reply.body.first()? {
            2 => Family::Ipv4,
            10 => Family::Ipv6,
            _ => return None,
        };
        Some(Table { family, name: text(reply, 1)? })
    });
    Ok(named.collect())
}

pub(super) fn read(socket: &mut Socket, table: &Table) -> Result<Option<Content>, Error> {
    if !tables(socket)?.contains(table) {
        return Ok(None);
    }
    let family = table.family.number();
    let ours = |reply: &&Reply| text(reply, 1).as_ref() == Some(&table.name);
    let mut content = Content::default();
    for reply in dump(socket, "list chains", GET_CHAIN, family, |_| {})?.iter().filter(ours) {
        content.chains.extend(text(reply, 3).map(|name| (name, Vec::new())));
    }
    let of_table = |a: &mut crate::netlink::Attributes<'_>| {
        a.text(1, &table.name);
    };
    for reply in dump(socket, "list rules", GET_RULE, family, of_table)?.iter().filter(ours) {
        let expressions = reply.attributes(FIXED).find(|a| a.kind == 4);
        if let (Some(chain), Some(expressions)) = (text(reply, 2), expressions) {
            content.chains.entry(chain).or_default().push(expressions.value.to_vec());
        }
    }
    let sets = dump(socket, "list sets", GET_SET, family, of_table)?;
    for name in sets.iter().filter(ours).filter_map(|reply| text(reply, 2)) {
        let elements = dump(socket, "list a set's elements", GET_ELEMENT, family, |a| {
            a.text(1, &table.name).text(2, &name);
        })?;
        content.sets.insert(name, elements.iter().flat_map(stored).collect());
    }
    Ok(Some(content))
}

fn dump(
    socket: &mut Socket,
    what: &'static str,
    kind: u16,
    family: u8,
    fill: impl FnOnce(&mut crate::netlink::Attributes<'_>),
) -> Result<Vec<Reply>, Error> {
    let mut messages = Messages::new();
    messages.add(SUBSYSTEM << 8 | kind, DUMP, &[family, 0, 0, 0], fill);
    socket.dump(what, &messages)
}

fn text(reply: &Reply, kind: u16) -> Option<String> {
    reply.attributes(FIXED).find(|a| a.kind == kind).map(|a| a.text())
}

fn stored(reply: &Reply) -> Vec<(Vec<u8>, Value)> {
    let lists = reply.attributes(FIXED).filter(|a| a.kind == 3);
    lists.flat_map(|list| list.nested().filter_map(|item| element(&item)).collect::<Vec<_>>()).collect()
}

fn element(item: &Attribute<'_>) -> Option<(Vec<u8>, Value)> {
    let of = |kind| item.nested().find(|a| a.kind == kind);
    // Only elements that rules have added expire.
    if of(5).is_some() {
        return None;
    }
    let mut key = data(&of(1)?)?.to_vec();
    key.extend(of(10).as_ref().and_then(data).unwrap_or_default());
    let value = match of(2) {
        None => Value::Nothing,
        Some(value) => match value.nested().find(|a| a.kind == 2) {
            Some(verdict) => Value::Goto(chain_of(&verdict)?),
            None => Value::Data(data(&value)?.to_vec()),
        },
    };
    Some((key, value))
}

fn data<'a>(attribute: &Attribute<'a>) -> Option<&'a [u8]> {
    attribute.nested().find(|a| a.kind == 1).map(|a| a.value)
}

fn chain_of(verdict: &Attribute<'_>) -> Option<String> {
    let code = verdict.nested().find(|a| a.kind == 1)?.be32()?.cast_signed();
    let chain = verdict.nested().find(|a| a.kind == 2)?.text();
    (code == GOTO).then_some(chain)
}
