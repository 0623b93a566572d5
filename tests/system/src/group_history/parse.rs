//! A member's log, line by line.

use super::{Entry, Event};

/// All that a log says. A last line that is not whole is left out: its writer was killed.
pub fn parse(log: &str) -> Vec<Entry> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Entry {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let at_ns = number(word(), line) as u64;
    let event = match word() {
        "subscribed" => Event::Subscribed,
        "assigned" => Event::Assigned(partitions(word(), line)),
        "revoked" => Event::Revoked(partitions(word(), line)),
        "lost" => Event::Lost(partitions(word(), line)),
        "processed" => Event::Processed {
            partition: number(word(), line) as i32,
            offset: number(word(), line),
            value: number(word(), line) as u64,
        },
        "committed" => Event::Committed {
            began_ns: number(word(), line) as u64,
            offsets: offsets(word(), line),
        },
        "closing" => Event::Closing,
        _ => Event::Alive,
    };
    Entry { at_ns, event }
}

fn partitions(text: &str, line: &str) -> Vec<i32> {
    let each = text.split(',').filter(|one| !one.is_empty());
    each.map(|one| number(one, line) as i32).collect()
}

fn offsets(text: &str, line: &str) -> Vec<(i32, i64)> {
    let pairs = text.split(',').map(|pair| {
        let (partition, offset) = pair.split_once(':').unwrap_or_default();
        (number(partition, line) as i32, number(offset, line))
    });
    pairs.collect()
}

#[track_caller]
fn number(text: &str, line: &str) -> i64 {
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number in {line:?}"))
}
