//! Looking at a journal changes nothing, and sees every damage.

use super::*;
use crate::media::Aside;
use crate::{survey, verify};

fn filled() -> (FaultyMedium, Journal, StreamId) {
    let medium = FaultyMedium::new(1);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..60 {
        journal.append(stream, &record(payload, 1000)).unwrap();
        journal.commit().unwrap();
        if payload == 30 {
            journal.checkpoint().unwrap();
        }
    }
    (medium, journal, stream)
}

#[test]
fn a_sound_journal_is_read_whole_and_not_changed() {
    let (medium, journal, stream) = filled();
    let status = journal.reader().stream(stream).unwrap();
    let files = journal.shared().files.len();
    drop(journal);
    for _ in 0..2 {
        let verification = verify(&medium, SMALL).unwrap();
        assert_eq!(verification.damage, Vec::<String>::new());
        assert_eq!((verification.chunks, verification.records), (60, 60));
        let survey = survey(&medium, SMALL).unwrap().unwrap();
        assert_eq!(survey.streams[0].next, status.next);
        assert_eq!(survey.streams[0].hash, status.hash);
        assert!(survey.frames_past_checkpoint >= 29);
    }
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert!(report.frames_replayed >= 29);
    assert!(journal.shared().files.len() >= files);
    assert_eq!(survey(&FaultyMedium::new(2), SMALL).unwrap(), None);
}

#[test]
fn every_flipped_byte_of_a_frame_is_found() {
    let (medium, journal, _) = filled();
    let slots: Vec<_> = journal
        .shared()
        .files
        .values()
        .map(|file| file.slot)
        .collect();
    drop(journal);
    // The first file is before the checkpoint, the last one is past it: there a frame that is not
    // the last one.
    for slot in [slots[0], slots[slots.len() - 1]] {
        for at in (4096..4096 + 200).step_by(3) {
            medium.damage(Aside::Log(slot), at);
            let found = verify(&medium, SMALL).unwrap().damage;
            assert!(!found.is_empty(), "byte {at} of slot {slot}");
            medium.damage(Aside::Log(slot), at);
        }
    }
    assert_eq!(verify(&medium, SMALL).unwrap().damage, Vec::<String>::new());
    medium.lose(Aside::Log(slots[0]));
    assert!(!verify(&medium, SMALL).unwrap().damage.is_empty());
}
