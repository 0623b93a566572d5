//! What most connections do not need most of the time: it is made when it is first changed, and given back
//! when it has come to rest. And a hasher for identifiers that no peer chooses among many.

use std::hash::{BuildHasherDefault, Hasher};

/// `None` is the same as the default.
#[derive(Debug)]
pub(super) struct OnDemand<T>(Option<Box<T>>);

impl<T> Default for OnDemand<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> OnDemand<T> {
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// Of what is there.
    pub(super) fn there(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    pub(super) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |boxed| *boxed)
    }

    /// Gives it back if it is as good as the default.
    pub(super) fn rest(&mut self, is_idle: impl FnOnce(&T) -> bool) {
        self.0.take_if(|value| is_idle(value));
    }
}

/// By packet identifiers, of which a client can choose among 65,535, and by tokens of ours.
pub(super) type ById = BuildHasherDefault<IdHasher>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    /// The high bits are used, too.
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
