//! Reading for an uplink: what is read here may be sent, and so the journal has to be able to prove its
//! boundaries later, even when the data is gone.

use tidegate_shared::id::{EdgeOffset, StreamId};

use crate::chunk::Chunk;
use crate::gap::Gap;
use crate::reader::{JournalReader, ReadError};

/// What there is to send from an offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSend {
    /// As of [`JournalReader::read`].
    Chunks(Vec<Chunk>),
    /// Lost: it begins at the offset that was asked for.
    Gap(Gap),
    /// It had landed and was let go; what is kept begins here.
    Gone { first: EdgeOffset },
    /// It is being dropped just now: ask again.
    Later,
}

impl JournalReader {
    /// Chunks or a gap from `from` on, and notes that they may be sent.
    pub fn read_to_send(
        &self,
        stream: StreamId,
        from: EdgeOffset,
        bytes_max: usize,
    ) -> Result<ToSend, ReadError> {
        if let Some(answer) = self.gap_to_send(stream, from)? {
            return Ok(answer);
        }
        let chunks = match self.read(stream, from, bytes_max) {
            Ok(chunks) => chunks,
            // It was dropped meanwhile.
            Err(ReadError::Gone { .. } | ReadError::Lost { .. }) => return Ok(ToSend::Later),
            Err(error) => return Err(error),
        };
        let Some(end) = chunks.last().map(Chunk::end) else {
            return Ok(ToSend::Chunks(chunks));
        };
        let mut shared = self.lock();
        if shared
            .dropping
            .get(&stream)
            .is_some_and(|below| from < *below)
        {
            return Ok(ToSend::Later);
        }
        if let Some(state) = shared.state.streams.get_mut(&stream) {
            // A drop that came between the two looks has left its gap.
            if state.gap_at(from).is_some() {
                return Ok(ToSend::Later);
            }
            state.offered = state.offered.max(end);
        }
        Ok(ToSend::Chunks(chunks))
    }

    /// The gap at `from`, if there is one.
    fn gap_to_send(&self, stream: StreamId, from: EdgeOffset) -> Result<Option<ToSend>, ReadError> {
        let mut shared = self.lock();
        if shared
            .dropping
            .get(&stream)
            .is_some_and(|below| from < *below)
        {
            return Ok(Some(ToSend::Later));
        }
        let state = shared.state.streams.get_mut(&stream);
        let state = state.ok_or(ReadError::UnknownStream(stream))?;
        let Some(lost) = state.gap_at(from).copied() else {
            let first = state.first();
            return Ok((from < first).then_some(ToSend::Gone { first }));
        };
        let gap = state.gap_from(from);
        let gap = gap.ok_or(ReadError::Lost { stream, gap: lost })?;
        state.offered = state.offered.max(gap.to);
        state.note_gap_offered(&gap);
        Ok(Some(ToSend::Gap(gap)))
    }
}
