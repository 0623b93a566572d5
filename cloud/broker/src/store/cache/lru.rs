//! A map that knows which of its entries was not asked for the longest, and what all of them weigh. Whoever
//! holds it decides when entries must go.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: u64,
    used: u64,
}

/// Entries by key and by when they were used.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    uses: u64,
    weight: u64,
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            weight: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// What all entries weigh.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Looks without using.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Finds an entry, which thereby is the newest.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.insert(self.uses, key.clone());
        Some(&entry.value)
    }

    /// Puts an entry in, as the newest; one of the same key goes.
    pub(super) fn insert(&mut self, key: K, value: V, weight: u64) {
        self.remove(&key);
        self.uses += 1;
        self.weight += weight;
        self.order.insert(self.uses, key.clone());
        let used = self.uses;
        let entry = Entry {
            value,
            weight,
            used,
        };
        self.entries.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Takes out the entry that was not used for the longest.
    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let key = self.order.first_key_value()?.1.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_used_goes_first() {
        let mut lru = Lru::default();
        lru.insert('a', 1, 10);
        lru.insert('b', 2, 20);
        lru.insert('c', 3, 30);
        assert_eq!(lru.get(&'a'), Some(&1));
        assert!(lru.contains(&'b'));
        lru.insert('c', 4, 5);
        assert_eq!((lru.weight(), lru.len()), (35, 3));
        let order: Vec<_> = std::iter::from_fn(|| lru.pop_oldest()).collect();
        assert_eq!(order, [('b', 2), ('a', 1), ('c', 4)]);
        assert_eq!((lru.weight(), lru.len()), (0, 0));
    }
}
