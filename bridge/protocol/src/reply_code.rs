//! With which code an end closes a bridge connection: QUIC's application error code.

use std::fmt;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// The program stops.
    Shutdown = 0,
    /// A frame that does not belong there, or a field that is not valid.
    Protocol = 1,
    FrameTooLarge = 2,
    /// A batch whose CRC or counts are wrong.
    BadBatch = 3,
    UnsupportedVersion = 4,
    /// Another connection of the same edge is newer.
    Fenced = 5,
    /// The other end took longer than it may.
    Timeout = 6,
    /// The log cannot be written now.
    Unavailable = 7,
    /// Two nodes were seen to have this identity; an operator decides.
    Quarantined = 8,
    /// The cloud is older than what this edge has seen; an operator decides.
    CloudBehind = 9,
    /// The edge says Hello more often than it may.
    HelloStorm = 10,
    /// A new cluster incarnation has begun: connect again.
    NewIncarnation = 11,
}

impl CloseCode {
    pub const ALL: [Self; 12] = [
        Self::Shutdown,
        Self::Protocol,
        Self::FrameTooLarge,
        Self::BadBatch,
        Self::UnsupportedVersion,
        Self::Fenced,
        Self::Timeout,
        Self::Unavailable,
        Self::Quarantined,
        Self::CloudBehind,
        Self::HelloStorm,
        Self::NewIncarnation,
    ];

    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u64 == number)
    }

    /// As metrics and log lines name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Protocol => "protocol",
            Self::FrameTooLarge => "frame_too_large",
            Self::BadBatch => "bad_batch",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Fenced => "fenced",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Quarantined => "quarantined",
            Self::CloudBehind => "cloud_behind",
            Self::HelloStorm => "hello_storm",
            Self::NewIncarnation => "new_incarnation",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
