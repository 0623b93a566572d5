//! A month of a full journal, small: streams of different retention leave holes, one pins a little of
//! every file. What is on the disk stays close to what lives on it, and nothing is refused.

use super::*;
use crate::{Overflow, Retention, StreamPolicy, Tick};

const FILES: usize = 32;

/// Files that are large beside blocks and tables, as real ones are.
const MONTH: Limits = Limits {
    log_file_bytes: 1 << 20,
    commit_bytes_max: 440 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 2 << 20,
    log_files_max: FILES,
    free_disk_min_bytes: 0,
    reserve_bytes: 64 << 10,
};

/// The same as `tests/bench month` holds the journal to, in per cent.
const RATIO_PER_CENT_MAX: u64 = 130;

fn policy(age_s: Option<u64>, bytes: Option<u64>, overflow: Overflow) -> StreamPolicy {
    let retention = Retention {
        age_ms: age_s.map(|age_s| age_s * 1000),
        bytes,
        ..Retention::default()
    };
    StreamPolicy {
        retention,
        overflow,
    }
}

#[test]
fn a_journal_at_most_of_its_disk_has_little_more_on_it_than_what_lives() {
    let (mut journal, _) = open(&FaultyMedium::new(11), MONTH).unwrap();
    let names = ["landing", "aging", "bounded", "pinning"];
    let streams = names.map(|name| open_stream(&mut journal, name));
    journal.commit().unwrap();
    journal.set_policy(streams[1], policy(Some(230), None, Overflow::Reject));
    journal.set_policy(streams[2], policy(None, Some(36 << 19), Overflow::Reject));
    journal.set_policy(streams[3], policy(Some(900), None, Overflow::Reject));
    let (mut worst, mut payload) = (0, 0);
    for second in 1..=2400 {
        journal.tick(Tick {
            monotonic_ms_since_open: second * 1000,
            wall_ms: 0,
        });
        for part in 0..20 {
            let stream = [0, 1, 2, 0, 1, 2, 2, 1, 0, 2][part % 10];
            let is_pinned = part == 0 && second % 2 == 0;
            let stream = streams[if is_pinned { 3 } else { stream }];
            journal.append(stream, &record(payload, 2900)).unwrap();
            payload += 1;
        }
        assert!(journal.commit().is_ok(), "refused in second {second}");
        let status = journal.reader().stream(streams[0]).unwrap();
        journal.advance_landed(streams[0], status.next, status.hash);
        journal.retain().unwrap();
        journal.checkpoint().unwrap();
        if second > 1200 {
            let stats = journal.stats();
            let used = stats.log_files - stats.log_files_spare;
            let disk = (used * MONTH.log_file_bytes) as u64;
            worst = worst.max(disk * 100 / journal.living_log_bytes());
        }
    }
    let stats = journal.stats();
    println!("{worst}% of what lives, {stats:?}");
    assert!(worst <= RATIO_PER_CENT_MAX, "{worst}");
    assert!(stats.cleaned_bytes > 0);
}
