//! How many passwords are checked at once: as many as half of the processors can, and no more than the node has memory
//! for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::PASSWORD_CHECKS_MIB_MAX;

#[derive(Clone, Debug)]
pub(crate) struct Checking {
    /// One for each MiB.
    free: Arc<Semaphore>,
    /// What a check takes at least, so that there are not too many.
    mib_min: u32,
}

impl Default for Checking {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = u32::try_from(processors / 2).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(PASSWORD_CHECKS_MIB_MAX as usize)),
            mib_min: PASSWORD_CHECKS_MIB_MAX / at_once.clamp(1, PASSWORD_CHECKS_MIB_MAX),
        }
    }
}

impl Checking {
    pub(crate) async fn turn(&self, memory_kib: u32) -> Option<OwnedSemaphorePermit> {
        let mib = memory_kib.div_ceil(1 << 10).max(self.mib_min);
        let free = Arc::clone(&self.free);
        let mib = mib.min(PASSWORD_CHECKS_MIB_MAX);
        free.acquire_many_owned(mib).await.ok()
    }
}

const _: () = {
    use tidegate_edge_protocol::mqtt::authentication::ARGON2_MEMORY_KIB_MAX;
    // Each check has a turn.
    assert!(ARGON2_MEMORY_KIB_MAX <= PASSWORD_CHECKS_MIB_MAX << 10);
};
