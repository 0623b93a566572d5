//! What one opening has not found, no later one finds, as long as nothing is written.

use super::*;

/// A commit that goes to the next log file, of which the medium kept the frame and not the header.
#[test]
fn a_frame_that_lost_its_files_header_does_not_come_back() {
    let mut lost = 0;
    for seed in 0..600 {
        let medium = FaultyMedium::new(seed);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        let commits = 10 + seed % 10;
        for payload in 0..commits {
            journal.append(stream, &record(payload, 3_900)).unwrap();
            journal.commit().unwrap();
        }
        // Nothing is written again by the opening, in the place of what is to stay lost.
        journal.checkpoint().unwrap();
        medium.fail_at_write(2 + seed % 4);
        journal.append(stream, &record(commits, 100)).unwrap();
        let _ = journal.commit();
        drop(journal);
        medium.cut_power(Survival::Random);
        let (journal, _) = open(&medium, SMALL).unwrap();
        let first = payloads(&journal, stream, EdgeOffset(0));
        drop(journal);
        medium.cut_power(Survival::Nothing);
        let (journal, _) = open(&medium, SMALL).unwrap();
        let again = payloads(&journal, stream, EdgeOffset(0));
        assert_eq!(first, again, "seed {seed}");
        lost += u64::from(first.len() as u64 == commits);
    }
    assert!(lost > 50, "some commits are lost: {lost}");
}
