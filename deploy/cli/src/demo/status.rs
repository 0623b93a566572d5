//! The status line: how many messages got how far, and the last reading that came out at the end.

use std::fmt;

use tidegate_edge::EdgeCounters;

use super::watcher::Watched;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    edge: EdgeCounters,
    consumed: u64,
    last: Option<String>,
}

impl Status {
    /// All numbers are since the start of this process.
    pub(super) fn new(before: EdgeCounters, now: EdgeCounters, watched: &Watched) -> Self {
        let edge = EdgeCounters {
            received: now.received.saturating_sub(before.received),
            stored: now.stored.saturating_sub(before.stored),
            landed: now.landed.saturating_sub(before.landed),
        };
        Self {
            edge,
            consumed: watched.consumed(),
            last: watched.last(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("received", self.edge.received),
            ("stored", self.edge.stored),
            ("landed", self.edge.landed),
            ("consumed", self.consumed),
        ];
        for (name, count) in counts {
            // Left-aligned in a width that grows seldom, so that the line does not jump.
            write!(formatter, "{name} {:<8}", grouped(count))?;
        }
        match &self.last {
            Some(last) => write!(formatter, "{last}"),
            None => formatter.write_str("(no reading yet)"),
        }
    }
}

/// Digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ];
        for (count, text) in cases {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn the_line_says_how_far_messages_got() {
        let status = Status {
            edge: EdgeCounters {
                received: 1204,
                stored: 1204,
                landed: 1198,
            },
            consumed: 1190,
            last: Some("demo/vm/cpu/load = {\"value\":0.42}".to_owned()),
        };
        assert_eq!(
            status.to_string(),
            "received 1,204   stored 1,204   landed 1,198   consumed 1,190   \
             demo/vm/cpu/load = {\"value\":0.42}"
        );
        assert!(Status::default().to_string().ends_with("(no reading yet)"));
    }

    #[test]
    fn what_was_there_before_the_start_does_not_count() {
        let counters = |received, stored, landed| EdgeCounters {
            received,
            stored,
            landed,
        };
        let (before, now) = (counters(0, 100, 90), counters(7, 107, 104));
        let status = Status::new(before, now, &Watched::default());
        assert_eq!(status.edge, counters(7, 7, 14));
    }
}
