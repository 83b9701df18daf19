//! Values that many share, each kept once under a small number, and dropped with its last user.

use std::hash::Hash;

use ahash::AHashMap;

/// The number of a pooled value. Numbers are used again after a value was dropped.
pub(crate) type Slot = u32;

/// Shared values with a count of their users.
#[derive(Clone, Debug)]
pub(crate) struct Pool<T> {
    numbers: AHashMap<T, Slot>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    value: T,
    users: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { numbers: AHashMap::new(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Pool<T> {
    /// The number of a value, which has one user more from now on.
    pub(crate) fn acquire(&mut self, value: &T) -> Slot {
        if let Some(&slot) = self.numbers.get(value) {
            self.entry_mut(slot).users += 1;
            return slot;
        }
        let entry = Some(Entry { value: value.clone(), users: 1 });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                Slot::try_from(self.entries.len() - 1).expect("fewer values than memory has words")
            }
        };
        self.numbers.insert(value.clone(), slot);
        slot
    }

    /// One user less; true if that was the last one.
    pub(crate) fn release(&mut self, slot: Slot) -> bool {
        let entry = self.entry_mut(slot);
        entry.users -= 1;
        if entry.users > 0 {
            return false;
        }
        let entry = self.entries[slot as usize].take().expect("it was there a line ago");
        self.numbers.remove(&entry.value);
        self.free.push(slot);
        true
    }

    pub(crate) fn find<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<Slot>
    where
        T: std::borrow::Borrow<Q>,
    {
        self.numbers.get(value).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> &T {
        &self.entries[slot as usize].as_ref().expect("a number is held by its users only").value
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.entries.iter().zip(0..).filter_map(|(entry, slot)| Some((slot, &entry.as_ref()?.value)))
    }

    /// One more than the largest number in use: the length of a table indexed by numbers.
    pub(crate) fn bound(&self) -> usize {
        self.entries.len()
    }

    fn entry_mut(&mut self, slot: Slot) -> &mut Entry<T> {
        self.entries[slot as usize].as_mut().expect("a number is held by its users only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_its_users() {
        let mut pool = Pool::<String>::default();
        let (one, two) = (pool.acquire(&"a".to_owned()), pool.acquire(&"a".to_owned()));
        assert_eq!((one, two, pool.get(one).as_str()), (0, 0, "a"));
        assert!(!pool.release(one));
        assert!(pool.release(two));
        assert_eq!(pool.find("a"), None);
        assert_eq!((pool.acquire(&"b".to_owned()), pool.bound()), (0, 1), "numbers are used again");
    }
}
