//! Numbers for keys that are long and come again and again.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

#[derive(Clone, Debug)]
pub(crate) struct Numbers<K> {
    numbers: BTreeMap<K, u32>,
    keys: Vec<K>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
            keys: Vec::new(),
        }
    }
}

impl<K: Clone + Ord> Numbers<K> {
    /// The key's number; a new one where it has none.
    pub(crate) fn number(&mut self, key: K) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = u32::try_from(self.keys.len()).expect("fewer than 4 billion numberings");
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    pub(crate) fn find(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&K> {
        self.keys.get(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All keys, in the order of their numbers.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.numbers.iter().map(|(key, number)| (key, *number))
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, u32)> {
        let found = self.numbers.range(range);
        found.map(|(key, number)| (key, *number))
    }
}
