//! Batches that were found not to be as they were written, while those before them were on their way already: whoever asks
//! for one of them next is to be told so. They are looked at again then, and one that is whole after all is given.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Place, StorageError};

/// With more, the lowest is forgotten: it is found again.
const SUSPECTS_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<BTreeSet<Place>>);

impl Suspects {
    pub(crate) fn has(&self, place: Place) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&place)
    }

    /// What has come of looking at a batch.
    pub(crate) fn note(&self, error: Option<&StorageError>) {
        if let Some(StorageError::Damaged(place)) = error {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(*place);
            if known.len() > SUSPECTS_MAX {
                known.pop_first();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_cloud_protocol::index::LogPlace;

    use super::*;

    #[test]
    fn what_was_damaged_is_suspect_and_so_many_are_known() {
        let suspects = Suspects::default();
        let place = |position| {
            Place::Log(LogPlace {
                object: 1,
                position,
            })
        };
        assert!(!suspects.has(place(7)));
        suspects.note(None);
        suspects.note(Some(&StorageError::Gone));
        for position in 0..1_001 {
            suspects.note(Some(&StorageError::Damaged(place(position))));
        }
        assert!(!suspects.has(place(0)) && suspects.has(place(1)) && suspects.has(place(1_000)));
    }
}
