//! Questions of the offset map whose answers may lie in segments: asks, opens the indexes that the answer needs,
//! and asks again. The answers are [`AllFacts`]' business, the indexes [`Segments`](crate::segments)'.

use tidegate_cloud_protocol::offset_map::{AllFacts, Opened, Unopened};

use crate::reading::{LOOK_UPS_MAX, StorageError};
use crate::state::Shared;

impl Shared {
    /// Asks until the indexes are there that the answer needs. Keep what is asked short: the sequencer waits
    /// meanwhile. All that it needs is in memory at once.
    ///
    /// # Errors
    /// A segment's index cannot be read.
    pub(crate) async fn look_up<T>(
        &self,
        ask: impl Fn(AllFacts<'_>) -> Result<T, Unopened>,
    ) -> Result<T, StorageError> {
        let mut opened = Opened::new();
        let mut missed = 0;
        loop {
            let Unopened(segments) = match self.ask(&opened, &ask) {
                Ok(answer) => return Ok(answer),
                Err(unopened) => unopened,
            };
            for segment in segments {
                match self.segments.index(&segment).await {
                    Ok(index) => drop(opened.insert(segment.id, index)),
                    // It was replaced meanwhile, and the ledger knows by what.
                    Err(error) if error.is_missing() && missed < LOOK_UPS_MAX => missed += 1,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn ask<T>(
        &self,
        opened: &Opened,
        ask: impl Fn(AllFacts<'_>) -> Result<T, Unopened>,
    ) -> Result<T, Unopened> {
        let state = self.state();
        ask(AllFacts::new(&state.ledger, &state.offset_map, opened))
    }
}
