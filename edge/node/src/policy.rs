//! What a stream keeps, as the journal wants it said.

use tidegate_edge_journal::{Overflow, Retention, StreamPolicy};
use tidegate_shared::fleet::{EdgeSpec, OverflowSpec, Span};
use tidegate_shared::id::StreamName;

/// The policy of a stream; the default one where the spec does not name it.
pub(crate) fn policy_of(spec: &EdgeSpec, stream: &StreamName) -> StreamPolicy {
    let Some(settings) = spec.streams.get(stream) else {
        return StreamPolicy::default();
    };
    let retention = &settings.retention;
    let ms = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    StreamPolicy {
        retention: Retention {
            age_ms: retention.age.map(ms),
            bytes: retention.bytes.map(|bytes| bytes.0),
            keep_after_landed_ms: ms(retention.keep_after_landed),
            ..Retention::default()
        },
        overflow: match settings.overflow {
            OverflowSpec::Reject => Overflow::Reject,
            OverflowSpec::DropOldest => Overflow::DropOldest,
        },
    }
}
