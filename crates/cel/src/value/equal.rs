//! When two values are the same.

use super::{List, Map, Value};
use crate::budget::{Budget, Error};
use crate::shape::{ListKind, Shape};

impl<'a> Value<'a> {
    /// Whether they are equal. Numbers of different types are compared as numbers; values of different types differ.
    pub(crate) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        budget.work(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) | (Self::Composed, Self::Composed) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::String(one), Self::String(other)) => {
                budget.work(one.len().min(other.len()) / 16)?;
                one == other
            }
            (Self::Bytes(one), Self::Bytes(other)) => one == other,
            (Self::Timestamp(one), Self::Timestamp(other)) => one == other,
            (Self::Duration(one), Self::Duration(other)) => one == other,
            (Self::Type(one), Self::Type(other)) => one == other,
            (Self::List(one), Self::List(other)) => one.equals(other, budget)?,
            (Self::Map(one), Self::Map(other)) => one.equals(other, budget)?,
            (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Optional(Some(one)), Self::Optional(Some(other))) => one.equals(other, budget)?,
            (Self::Struct(one), Self::Struct(other)) => {
                if one.name != other.name || one.fields.len() != other.fields.len() {
                    return Ok(false);
                }
                for (name, value) in &one.fields {
                    let Some((_, second)) = other.fields.iter().find(|(second, _)| second == name) else {
                        return Ok(false);
                    };
                    if !value.equals(second, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Ip(one), Self::Ip(other)) => one == other,
            (Self::Cidr(one), Self::Cidr(other)) => one == other,
            (Self::Quantity(one), Self::Quantity(other)) => one == other,
            (Self::Url(one), Self::Url(other)) => one.to_string() == other.to_string(),
            (Self::Format(one), Self::Format(other)) => one.name == other.name,
            (Self::Semver(one), Self::Semver(other)) => one.order(other).is_eq(),
            (Self::Int(_) | Self::Uint(_) | Self::Double(_), Self::Int(_) | Self::Uint(_) | Self::Double(_)) => {
                self.numeric_order(other).is_some_and(std::cmp::Ordering::is_eq)
            }
            _ => false,
        })
    }
}

impl<'a> List<'a> {
    fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let (Self::Tree(_, shape), Self::Tree(..)) = (self, other)
            && let ListKind::Set | ListKind::Map(_) = shape.within()
        {
            return self.same_items(other, budget);
        }
        if let (Self::Owned(ones), Self::Owned(others)) = (self, other) {
            return all_equal(ones.iter().zip(others.iter()), budget);
        }
        for (one, other) in self.iter().zip(other.iter()) {
            if !one.equals(&other, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether each item is in the other list too, wherever.
    fn same_items(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        for item in self.iter() {
            if !other.contains(&item, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn contains(&self, item: &Value<'a>, budget: &mut Budget) -> Result<bool, Error> {
        for each in self.iter() {
            if each.equals(item, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn all_equal<'v, 'a: 'v>(
    pairs: impl Iterator<Item = (&'v Value<'a>, &'v Value<'a>)>,
    budget: &mut Budget,
) -> Result<bool, Error> {
    for (one, other) in pairs {
        if !one.equals(other, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Map<'_> {
    fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for (key, value) in self.entries() {
            let Some(second) = other.get(&key) else { return Ok(false) };
            if !value.equals(&second, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Shape {
    /// What the list is whose items have this shape.
    fn within(&self) -> &ListKind {
        self.list_kind()
    }
}
