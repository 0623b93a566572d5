//! Where a batch lies that is read of a file.

use std::fmt;

use tidegate_cloud_protocol::index::{LogPlace, SegmentId};

use crate::segments;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Log(LogPlace),
    Segment {
        segment: SegmentId,
        /// Bytes from the segment's start.
        position: u64,
    },
}

impl Place {
    pub(super) fn position(self) -> u64 {
        match self {
            Self::Log(place) => place.position,
            Self::Segment { position, .. } => position,
        }
    }

    /// So many bytes further on, in the same file.
    pub(super) fn plus(self, bytes: usize) -> Self {
        let bytes = bytes as u64;
        match self {
            Self::Log(place) => Self::Log(LogPlace {
                position: place.position + bytes,
                ..place
            }),
            Self::Segment { segment, position } => Self::Segment {
                segment,
                position: position + bytes,
            },
        }
    }
}

impl From<LogPlace> for Place {
    fn from(place: LogPlace) -> Self {
        Self::Log(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(LogPlace { object, position }) => {
                write!(out, "byte {position} of log object {object}")
            }
            Self::Segment { segment, position } => {
                let (name, store) = (segments::name(*segment), segment.store);
                write!(
                    out,
                    "byte {position} of segment {name} in object store {store}"
                )
            }
        }
    }
}
