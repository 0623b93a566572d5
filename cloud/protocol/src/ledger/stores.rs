//! The object stores that segments can lie in. Number 0 is the cluster's own, whose URL is the configuration's; the
//! others have theirs from the ledger. A number means the same store for ever: none is given twice, and none is
//! taken away.

use std::collections::BTreeMap;

use super::command::{AddStore, TopicChange};
use super::{Effect, Ledger};

/// The cluster's own store.
pub const CLUSTER_STORE: u32 = 0;

/// Stores beside the cluster's; one more is refused.
pub const STORES_MAX: u32 = 1_000;

/// URLs by their numbers, which begin with 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stores(pub(super) BTreeMap<u32, String>);

impl Stores {
    fn number_of(&self, url: &str) -> Option<u32> {
        let mut all = self.0.iter();
        all.find_map(|(number, known)| (known == url).then_some(*number))
    }

    pub(super) fn knows(&self, number: u32) -> bool {
        number == CLUSTER_STORE || self.0.contains_key(&number)
    }

    /// The store that one of the changes names and that nobody knows.
    pub(super) fn unknown_in(&self, changes: &[TopicChange]) -> Option<u32> {
        changes.iter().find_map(|change| match change {
            TopicChange::Store(number) if !self.knows(*number) => Some(*number),
            _ => None,
        })
    }
}

impl Ledger {
    /// The stores beside the cluster's, with their URLs.
    pub fn stores(&self) -> impl Iterator<Item = (u32, &str)> {
        let stores = self.stores.0.iter();
        stores.map(|(number, url)| (*number, url.as_str()))
    }

    /// A store's URL; `None` for the cluster's, and for one that is not known.
    pub fn store_url(&self, number: u32) -> Option<&str> {
        self.stores.0.get(&number).map(String::as_str)
    }

    pub(super) fn add_store(&mut self, add: AddStore) -> Effect {
        if let Some(number) = self.stores.number_of(&add.url) {
            return Effect::StoreAdded { number };
        }
        let newest = self.stores.0.keys().next_back().copied();
        let number = newest.unwrap_or(CLUSTER_STORE).saturating_add(1);
        if number > STORES_MAX {
            return Effect::StoreRefused;
        }
        self.stores.0.insert(number, add.url);
        Effect::StoreAdded { number }
    }
}
