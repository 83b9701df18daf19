//! A transaction in the making.

use super::expression::{Expression, Verdict};
use super::{Base, ChainKind, Element, FIXED, Field, Maps, SUBSYSTEM, Set, Table, Value};
use crate::netlink::{Attributes, Messages};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const EXCLUSIVE: u16 = 0x200;

pub(super) const LIST_ITEM: u16 = 1;
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// Bits of one field's type in the type of a key of several.
const TYPE_BITS: u32 = 6;

const FLAG_RANGES: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_DYNAMIC: u32 = 0x20;
const FLAG_CONCAT: u32 = 0x80;

/// A list of elements is one attribute and must stay below 64 KiB; the longest element takes 160 bytes.
const ELEMENTS_MAX: usize = 400;

/// Changes of one table that take effect together.
#[derive(Debug, Clone)]
pub struct Batch {
    table: Table,
    messages: Messages,
    sets: u32,
}

impl Batch {
    pub fn new(table: &Table) -> Self {
        let mut messages = Messages::new();
        messages.add(BATCH_BEGIN, 0, &[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]], |_| {});
        Self { table: table.clone(), messages, sets: 0 }
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// Bytes that the kernel will be sent.
    pub fn size(&self) -> usize {
        self.messages.size()
    }

    /// Makes the table empty, whether it was there or not.
    pub fn replace_table(&mut self) {
        self.delete_table();
        self.add(NEW_TABLE, CREATE, |_| {});
    }

    /// Removes the table, whether it was there or not.
    pub fn delete_table(&mut self) {
        self.add(NEW_TABLE, CREATE, |_| {});
        self.add(DELETE_TABLE, 0, |_| {});
    }

    pub fn add_chain(&mut self, name: &str, base: Option<Base>) {
        self.add(NEW_CHAIN, CREATE | EXCLUSIVE, |a| {
            a.text(3, name);
            let Some(Base { kind, hook, priority }) = base else { return };
            a.nest(4, |a| {
                a.be32(1, hook as u32).be32(2, priority.cast_unsigned());
            });
            a.text(7, if kind == ChainKind::Nat { "nat" } else { "filter" });
        });
    }

    /// Removes a chain without rules.
    pub fn delete_chain(&mut self, name: &str) {
        self.add(DELETE_CHAIN, 0, |a| {
            a.text(3, name);
        });
    }

    pub fn delete_rules(&mut self, chain: &str) {
        self.add(DELETE_RULE, 0, |a| {
            a.text(2, chain);
        });
    }

    /// Adds a rule at a chain's end.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        let family = self.table.family;
        self.add(NEW_RULE, CREATE | APPEND, |a| {
            a.text(2, chain).nest(4, |a| {
                for expression in expressions {
                    a.nest(LIST_ITEM, |a| expression.encode(family, a));
                }
            });
        });
    }

    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.add(NEW_SET, CREATE | EXCLUSIVE, |a| {
            a.text(2, &set.name).be32(3, flags(set)).be32(4, type_of(set.key)).be32(5, length_of(set.key));
            match set.maps {
                Maps::Nothing => {}
                Maps::Verdicts => {
                    a.be32(6, VERDICT_TYPE).be32(7, 0);
                }
                Maps::Values(fields) => {
                    a.be32(6, type_of(fields)).be32(7, length_of(fields));
                }
            }
            a.be32(10, id);
            a.nest(9, |a| describe(set, a));
        });
    }

    /// Removes a set that no rule uses any more.
    pub fn delete_set(&mut self, set: &Set) {
        self.add(DELETE_SET, 0, |a| {
            a.text(2, &set.name);
        });
    }

    pub fn add_elements<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NEW_ELEMENT, CREATE | EXCLUSIVE, set, elements);
    }

    pub fn delete_elements<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(DELETE_ELEMENT, 0, set, elements);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        message_flags: u16,
        set: &Set,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.add(kind, message_flags, |a| {
                a.text(2, &set.name).nest(3, |a| {
                    for element in elements.by_ref().take(ELEMENTS_MAX) {
                        a.nest(LIST_ITEM, |a| element.encode(a));
                    }
                });
            });
        }
    }

    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let Table { family, name } = &self.table;
        let mut fixed = [0; FIXED];
        fixed[0] = family.number();
        self.messages.add(SUBSYSTEM << 8 | kind, flags, &fixed, |a| fill(a.text(1, name)));
    }

    pub(super) fn finish(mut self) -> Messages {
        self.messages.add(BATCH_END, 0, &[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]], |_| {});
        self.messages
    }
}

impl Element {
    fn encode(&self, a: &mut Attributes<'_>) {
        a.nest(1, |a| {
            a.bytes(1, &self.key);
        });
        if let Some(end) = &self.key_end {
            a.nest(10, |a| {
                a.bytes(1, end);
            });
        }
        match &self.value {
            Value::Nothing => {}
            Value::Data(bytes) => {
                a.nest(2, |a| {
                    a.bytes(1, bytes);
                });
            }
            Value::Goto(chain) => {
                a.nest(2, |a| Verdict::Goto(chain.clone()).encode(a));
            }
        }
    }
}

fn flags(set: &Set) -> u32 {
    let mut flags = 0;
    if set.ranges {
        flags |= FLAG_RANGES;
    }
    if set.ranges && set.key.len() > 1 {
        flags |= FLAG_CONCAT;
    }
    if set.maps != Maps::Nothing {
        flags |= FLAG_MAP;
    }
    if set.dynamic_max.is_some() {
        flags |= FLAG_TIMEOUT | FLAG_DYNAMIC;
    }
    flags
}

fn describe(set: &Set, a: &mut Attributes<'_>) {
    if let Some(max) = set.dynamic_max {
        a.be32(1, max);
    }
    if set.ranges && set.key.len() > 1 {
        a.nest(2, |a| {
            for field in set.key {
                a.nest(LIST_ITEM, |a| {
                    a.be32(1, field.length());
                });
            }
        });
    }
}

fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |sum, field| sum << TYPE_BITS | field.kind())
}

fn length_of(fields: &[Field]) -> u32 {
    match fields {
        [one] => one.length(),
        several => several.iter().map(|field| field.length().next_multiple_of(4)).sum(),
    }
}
