//! Frames as a person reads them in a trace.

use tidegate_bridge_protocol::frame::Frame;

/// A frame in a line.
pub fn described(frame: &Frame) -> String {
    match frame {
        Frame::Hello(hello) => format!(
            "Hello (seen {}.{})",
            hello.cluster_incarnation.counter, hello.session_epoch
        ),
        Frame::Welcome(welcome) => format!(
            "Welcome ({}.{})",
            welcome.cluster_incarnation.counter, welcome.session_epoch
        ),
        Frame::Batch(batch) => format!(
            "Batch {} of stream {}: {} from {}",
            batch.request, batch.stream, batch.offer.count, batch.offer.base_offset
        ),
        Frame::Gap(gap) => format!(
            "Gap {} of stream {}: {} from {}",
            gap.request, gap.stream, gap.offer.count, gap.offer.base_offset
        ),
        Frame::Landed(landed) => format!(
            "Landed {} of stream {} up to {}",
            landed.request, landed.stream, landed.landed
        ),
        Frame::Refused(refused) => format!(
            "Refused {} of stream {}: {}; E is {}",
            refused.request, refused.stream, refused.reason, refused.next
        ),
        Frame::Fork(fork) => format!(
            "Fork of stream {} from {} ({})",
            fork.stream, fork.request.from, fork.request.reason
        ),
        Frame::Granted(granted) => {
            let streams = granted.streams.iter().map(|stream| {
                let refused = stream.refused.map_or("", |_| " refused");
                let (stream, next) = (stream.stream, stream.next);
                format!("stream {stream} at {next}{refused}")
            });
            format!("Granted ({})", streams.collect::<Vec<_>>().join(", "))
        }
        other => other.name().to_owned(),
    }
}
