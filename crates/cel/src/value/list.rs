//! Lists: part of an object, made by an expression, or two lists one after the other.

use std::sync::Arc;

use corten_apimachinery::value::Value as Tree;

use super::Value;
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub enum List<'a> {
    /// An array of an object; the shape is of its items.
    Tree(&'a [Tree], &'a Shape),
    Owned(Arc<Vec<Value<'a>>>),
    /// Joining copies nothing: an expression could make itself expensive otherwise.
    Joined(Arc<Joined<'a>>),
}

#[derive(Debug)]
pub struct Joined<'a> {
    first: List<'a>,
    second: List<'a>,
    length: usize,
}

impl<'a> List<'a> {
    pub fn owned(items: Vec<Value<'a>>) -> Self {
        Self::Owned(Arc::new(items))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Tree(items, _) => items.len(),
            Self::Owned(items) => items.len(),
            Self::Joined(joined) => joined.length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Tree(items, shape) => items.get(index).map(|item| shape.read(item)),
            Self::Owned(items) => items.get(index).cloned(),
            Self::Joined(joined) => {
                let first = joined.first.len();
                if index < first { joined.first.get(index) } else { joined.second.get(index - first) }
            }
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Value<'a>> + '_ {
        (0..self.len()).map(|index| self.get(index).expect("the index is below the length"))
    }

    /// This list with another after it. One that nobody else holds grows in place.
    pub(crate) fn joined(mut self, second: Self) -> Self {
        if second.is_empty() {
            return self;
        }
        if self.is_empty() {
            return second;
        }
        if let (Self::Owned(items), Self::Owned(more)) = (&mut self, &second)
            && let Some(items) = Arc::get_mut(items)
        {
            items.extend(more.iter().cloned());
            return self;
        }
        let length = self.len().saturating_add(second.len());
        Self::Joined(Arc::new(Joined { first: self, second, length }))
    }
}

impl<'a> FromIterator<Value<'a>> for List<'a> {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(items: I) -> Self {
        Self::owned(items.into_iter().collect())
    }
}
