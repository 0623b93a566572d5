//! Landing: the one pure rule by which the cloud accepts, answers again, or refuses what an edge
//! sends. The ledger keeps a [`Head`] per (edge, stream, incarnation) and asks [`judge`]; nothing
//! else in the house decides about duplicates.

use std::fmt;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, SessionEpoch};
use tidegate_shared::wire::{Reader, WireError};

use crate::broken::{Rule, broken};
use crate::reply_code::CloseCode;

/// What an edge offers to land: an interval of a stream, proved by the hashes at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub session_epoch: SessionEpoch,
    pub incarnation: Incarnation,
    pub base_offset: EdgeOffset,
    /// At least 1.
    pub count: u64,
    pub hash_before: BoundaryHash,
    pub hash_after: BoundaryHash,
}

impl Offer {
    /// The offset after the last message offered; `None` where a forged offer would overflow.
    pub fn end(&self) -> Option<EdgeOffset> {
        self.base_offset.0.checked_add(self.count).map(EdgeOffset)
    }

    /// Its fields, as frames and the ledger's commands have them.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.session_epoch.0);
        out.put_u64_le(self.incarnation.0);
        out.put_u64_le(self.base_offset.0);
        out.put_u64_le(self.count);
        out.put_u128_le(self.hash_before.0);
        out.put_u128_le(self.hash_after.0);
    }

    pub fn take(reader: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            session_epoch: SessionEpoch(reader.u64("session epoch")?),
            incarnation: Incarnation(reader.u64("incarnation")?),
            base_offset: EdgeOffset(reader.u64("base offset")?),
            count: reader.u64("count")?,
            hash_before: BoundaryHash(reader.u128("hash before")?),
            hash_after: BoundaryHash(reader.u128("hash after")?),
        })
    }
}

/// How far one stream has landed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub incarnation: Incarnation,
    /// E: the next edge offset that may land.
    pub next: EdgeOffset,
    /// The hash at E.
    pub hash: BoundaryHash,
}

/// The rule's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It lands; the head moves to this.
    Accept(Head),
    /// All of it has landed before: it is answered with the head (and its facts), and not stored.
    Duplicate,
    Refused(RefusedReason),
}

/// Why an offer is refused. The number is the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[repr(u8)]
pub enum RefusedReason {
    #[error("the session epoch is stale: another connection of this edge is newer")]
    StaleSessionEpoch = 1,
    #[error("the incarnation is not the one that the stream has")]
    WrongIncarnation = 2,
    #[error("the offer does not start at the next offset")]
    WrongOffset = 3,
    #[error("the hash before the offer is not the one that landed")]
    WrongHash = 4,
    #[error("the stream was not announced")]
    UnknownStream = 5,
    #[error("the stream's topic cannot take it: the stream is parked")]
    Parked = 6,
    #[error("the batch is not a batch, or not of this interval")]
    BadBatch = 7,
    #[error("the batch is larger than allowed, or the edge has as many streams as it may have")]
    TooLarge = 8,
    #[error(
        "two nodes were seen to have this edge's identity: it is in quarantine until an operator releases it"
    )]
    Quarantined = 9,
    #[error(
        "the cloud is older than what an edge has seen: nothing lands until an operator begins a new cluster incarnation"
    )]
    CloudBehind = 10,
    #[error("the session is of an older cluster incarnation: the edge has to connect again")]
    OlderLife = 11,
}

impl RefusedReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::StaleSessionEpoch,
        Self::WrongIncarnation,
        Self::WrongOffset,
        Self::WrongHash,
        Self::UnknownStream,
        Self::Parked,
        Self::BadBatch,
        Self::TooLarge,
        Self::Quarantined,
        Self::CloudBehind,
        Self::OlderLife,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// The code with which both ends close the connection, where the whole session is refused.
    pub fn ends_session(self) -> Option<CloseCode> {
        match self {
            Self::StaleSessionEpoch => Some(CloseCode::Fenced),
            Self::OlderLife => Some(CloseCode::NewIncarnation),
            _ => None,
        }
    }

    /// As metrics and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StaleSessionEpoch => "stale_session_epoch",
            Self::WrongIncarnation => "wrong_incarnation",
            Self::WrongOffset => "wrong_offset",
            Self::WrongHash => "wrong_hash",
            Self::UnknownStream => "unknown_stream",
            Self::Parked => "parked",
            Self::BadBatch => "bad_batch",
            Self::TooLarge => "too_large",
            Self::Quarantined => "quarantined",
            Self::CloudBehind => "cloud_behind",
            Self::OlderLife => "older_life",
        }
    }
}

/// Why a stream's numbering begins a new life. The number is the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ForkReason {
    /// The edge's journal does not have the hub's position: it was restored from an older copy.
    Unproved = 1,
    /// The edge's journal was lost, and began anew.
    NewStore = 2,
    /// The cloud's state was restored from an older copy: the edge sends again what it keeps.
    CloudRestored = 3,
}

impl ForkReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Unproved, Self::NewStore, Self::CloudRestored];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// One that is not known is taken for `unknown`; where there is none it is an error.
    pub fn take(reader: &mut Reader, unknown: Option<Self>) -> Result<Self, WireError> {
        let field = "reason";
        let reason = Self::from_number(reader.u8(field)?).or(unknown);
        reason.ok_or(WireError::Invalid { field })
    }

    /// As metrics, log lines and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unproved => "unproved",
            Self::NewStore => "new_store",
            Self::CloudRestored => "cloud_restored",
        }
    }
}

impl fmt::Display for ForkReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// An edge's wish for a new incarnation of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkRequest {
    pub session_epoch: SessionEpoch,
    /// The incarnation that ends: the hub's, as the edge was told.
    pub ends: Incarnation,
    /// The newest incarnation that the edge has stored: the new one is newer than both.
    pub edge_incarnation: Incarnation,
    /// The first offset that the new one can have, and the hash there.
    pub from: EdgeOffset,
    pub hash: BoundaryHash,
    pub reason: ForkReason,
    /// The edge has proved the hub's position in this session: it lacks what follows.
    pub is_proved: bool,
}

impl ForkRequest {
    /// Its fields, as frames and the ledger's commands have them.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.session_epoch.0);
        out.put_u64_le(self.ends.0);
        out.put_u64_le(self.edge_incarnation.0);
        out.put_u64_le(self.from.0);
        out.put_u128_le(self.hash.0);
        out.put_u8(self.reason as u8);
        out.put_u8(u8::from(self.is_proved));
    }

    /// `unknown` is for the reason, see [`ForkReason::take`].
    pub fn take(reader: &mut Reader, unknown: Option<ForkReason>) -> Result<Self, WireError> {
        Ok(Self {
            session_epoch: SessionEpoch(reader.u64("session epoch")?),
            ends: Incarnation(reader.u64("incarnation")?),
            edge_incarnation: Incarnation(reader.u64("edge's incarnation")?),
            from: EdgeOffset(reader.u64("from")?),
            hash: BoundaryHash(reader.u128("hash")?),
            reason: ForkReason::take(reader, unknown)?,
            is_proved: reader.u8("proved")? != 0,
        })
    }
}

/// Judges `offer` against the stream's head and the newest session epoch granted to its edge.
///
/// The order of the checks is the rule: the fence first, so that a fenced connection learns nothing
/// by which it could go on; then duplicates, whole ones only; then offset and hash together.
pub fn judge(head: &Head, newest_epoch: SessionEpoch, offer: &Offer) -> Verdict {
    if offer.session_epoch != newest_epoch && !broken(Rule::SkipFence) {
        return Verdict::Refused(RefusedReason::StaleSessionEpoch);
    }
    if offer.incarnation != head.incarnation {
        return Verdict::Refused(RefusedReason::WrongIncarnation);
    }
    let Some(end) = offer.end().filter(|_| offer.count > 0) else {
        return Verdict::Refused(RefusedReason::WrongOffset);
    };
    if end <= head.next {
        return Verdict::Duplicate;
    }
    if offer.base_offset != head.next {
        return Verdict::Refused(RefusedReason::WrongOffset);
    }
    if !same_hash(offer.hash_before, head.hash) {
        return Verdict::Refused(RefusedReason::WrongHash);
    }
    Verdict::Accept(Head {
        incarnation: head.incarnation,
        next: end,
        hash: offer.hash_after,
    })
}

/// Whether two nodes mean the same messages by a boundary.
pub fn same_hash(ours: BoundaryHash, theirs: BoundaryHash) -> bool {
    ours == theirs || broken(Rule::IgnoreHash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        incarnation: Incarnation(3),
        next: EdgeOffset(10),
        hash: BoundaryHash(77),
    };
    const EPOCH: SessionEpoch = SessionEpoch(5);

    fn offer(base_offset: u64, count: u64) -> Offer {
        Offer {
            session_epoch: EPOCH,
            incarnation: Incarnation(3),
            base_offset: EdgeOffset(base_offset),
            count,
            hash_before: BoundaryHash(77),
            hash_after: BoundaryHash(78),
        }
    }

    fn refused(reason: RefusedReason) -> Verdict {
        Verdict::Refused(reason)
    }

    #[test]
    fn what_follows_lands() {
        let after = Head {
            next: EdgeOffset(14),
            hash: BoundaryHash(78),
            ..HEAD
        };
        assert_eq!(judge(&HEAD, EPOCH, &offer(10, 4)), Verdict::Accept(after));
    }

    #[test]
    fn only_what_lies_wholly_below_is_a_duplicate() {
        assert_eq!(judge(&HEAD, EPOCH, &offer(6, 4)), Verdict::Duplicate);
        assert_eq!(
            judge(&HEAD, EPOCH, &offer(6, 5)),
            refused(RefusedReason::WrongOffset)
        );
        assert_eq!(
            judge(&HEAD, EPOCH, &offer(11, 1)),
            refused(RefusedReason::WrongOffset)
        );
    }

    #[test]
    fn the_fence_comes_before_all_else() {
        let stale = Offer {
            session_epoch: SessionEpoch(4),
            ..offer(6, 4)
        };
        assert_eq!(
            judge(&HEAD, EPOCH, &stale),
            refused(RefusedReason::StaleSessionEpoch)
        );
    }

    #[test]
    fn a_wrong_hash_or_incarnation_is_refused() {
        let hash = Offer {
            hash_before: BoundaryHash(1),
            ..offer(10, 1)
        };
        assert_eq!(
            judge(&HEAD, EPOCH, &hash),
            refused(RefusedReason::WrongHash)
        );
        let incarnation = Offer {
            incarnation: Incarnation(2),
            ..offer(10, 1)
        };
        assert_eq!(
            judge(&HEAD, EPOCH, &incarnation),
            refused(RefusedReason::WrongIncarnation)
        );
    }

    #[test]
    fn forged_numbers_do_not_overflow() {
        assert_eq!(
            judge(&HEAD, EPOCH, &offer(u64::MAX, 2)),
            refused(RefusedReason::WrongOffset)
        );
        assert_eq!(
            judge(&HEAD, EPOCH, &offer(10, 0)),
            refused(RefusedReason::WrongOffset)
        );
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for (index, reason) in RefusedReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index + 1);
            assert_eq!(RefusedReason::from_number(reason as u8), Some(reason));
        }
    }
}
