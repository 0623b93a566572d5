use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};

use super::*;

const VERSION: i16 = 12;
const NEW_ID: i32 = 7;
const NOT_FOUND: i16 = reply_code::FETCH_SESSION_ID_NOT_FOUND;

/// A connection, and what it shares with others.
struct Connection {
    session: Option<FetchSession>,
    room: Arc<Semaphore>,
}

/// The session's id, and the partitions that were told, or why not.
type Outcome = Result<(i32, Vec<i32>), i16>;

impl Connection {
    fn new(room: usize) -> Self {
        Self {
            session: None,
            room: Arc::new(Semaphore::new(room)),
        }
    }

    /// One fetch of topic `t`; `answer` is what there is to be told of a partition.
    fn fetch(
        &mut self,
        (id, epoch): (i32, i32),
        wanted: &[i32],
        forgotten: &[i32],
        answer: impl Fn(i32) -> Answer<()>,
    ) -> Outcome {
        let partitions = wanted.iter().map(|partition| {
            let wanted = FetchPartition::default();
            wanted.with_partition(*partition)
        });
        let name = || TopicName(StrBytes::from_static_str("t"));
        let topic = FetchTopic::default()
            .with_topic(name())
            .with_partitions(partitions.collect());
        let forgotten = ForgottenTopic::default()
            .with_topic(name())
            .with_partitions(forgotten.to_vec());
        let mut request = FetchRequest::default()
            .with_session_id(id)
            .with_session_epoch(epoch)
            .with_topics(vec![topic])
            .with_forgotten_topics_data(vec![forgotten]);
        let round = Round::begin(&mut self.session, VERSION, &mut request)?;
        let asked = round.partitions.iter();
        let answers = asked.map(|asked| {
            let mut answer = answer(asked.wanted.partition);
            answer.data.partition_index = asked.wanted.partition;
            answer
        });
        let answers = answers.collect();
        let (id, topics) = round.end(&mut self.session, VERSION, answers, (&self.room, NEW_ID));
        let told = topics.into_iter().flat_map(|(_, answers)| answers);
        Ok((id, told.map(|told| told.data.partition_index).collect()))
    }
}

fn at(high_watermark: i64) -> Answer<()> {
    Answer {
        data: PartitionData::default().with_high_watermark(high_watermark),
        records: None,
    }
}

fn with_records(high_watermark: i64) -> Answer<()> {
    Answer {
        records: Some(()),
        ..at(high_watermark)
    }
}

#[test]
fn what_is_not_new_is_not_told_again() {
    let mut connection = Connection::new(100);
    let begun = connection.fetch((0, BEGINS), &[0, 1, 2], &[], |_| at(5));
    assert_eq!(begun, Ok((NEW_ID, vec![0, 1, 2])), "all at the start");
    let nothing = connection.fetch((NEW_ID, 1), &[], &[], |_| at(5));
    assert_eq!(nothing, Ok((NEW_ID, vec![])));
    let one = connection.fetch((NEW_ID, 2), &[], &[], |partition| match partition {
        1 => at(6),
        _ => at(5),
    });
    assert_eq!(one, Ok((NEW_ID, vec![1])), "its end is another");
    let broken = |partition| match partition {
        0 => Answer {
            data: PartitionData::default().with_error_code(reply_code::OFFSET_OUT_OF_RANGE),
            records: None,
        },
        1 => at(6),
        _ => at(5),
    };
    for epoch in 3..5 {
        let told = connection.fetch((NEW_ID, epoch), &[], &[], broken);
        assert_eq!(told, Ok((NEW_ID, vec![0])), "an error is told each time");
    }
    let mended = connection.fetch((NEW_ID, 5), &[], &[], |partition| match partition {
        1 => at(6),
        _ => at(5),
    });
    assert_eq!(mended, Ok((NEW_ID, vec![0])), "it was in error until now");
}

#[test]
fn a_session_takes_partitions_on_and_forgets_them() {
    let mut connection = Connection::new(100);
    connection
        .fetch((0, BEGINS), &[0, 1], &[], |_| at(5))
        .unwrap();
    let told = connection.fetch((NEW_ID, 1), &[2], &[0], |_| with_records(6));
    assert_eq!(told, Ok((NEW_ID, vec![1, 2])));
    assert_eq!(connection.room.available_permits(), 98);
    let told = connection.fetch((NEW_ID, 2), &[], &[1, 2], |_| at(6));
    assert_eq!(told, Ok((0, vec![])), "an empty one is over");
    assert_eq!(connection.room.available_permits(), 100);
    let told = connection.fetch((NEW_ID, 3), &[], &[], |_| at(6));
    assert_eq!(told, Err(NOT_FOUND));
}

#[test]
fn another_session_or_another_epoch_is_refused() {
    let mut connection = Connection::new(100);
    let told = connection.fetch((NEW_ID, 1), &[0], &[], |_| at(5));
    assert_eq!(told, Err(NOT_FOUND), "there is none");
    connection.fetch((0, BEGINS), &[0], &[], |_| at(5)).unwrap();
    let told = connection.fetch((NEW_ID + 1, 1), &[], &[], |_| at(5));
    assert_eq!(told, Err(NOT_FOUND));
    let told = connection.fetch((NEW_ID, 2), &[], &[], |_| at(5));
    assert_eq!(told, Err(reply_code::INVALID_FETCH_SESSION_EPOCH));
    let told = connection.fetch((NEW_ID, 1), &[], &[], |_| at(6));
    assert_eq!(
        told,
        Ok((NEW_ID, vec![0])),
        "what was refused has changed nothing"
    );
    let mut by_id = FetchRequest::default()
        .with_session_id(NEW_ID)
        .with_session_epoch(2);
    let refused = Round::begin(&mut connection.session, 13, &mut by_id).map(drop);
    assert_eq!(refused, Err(reply_code::FETCH_SESSION_TOPIC_ID_ERROR));
}

#[test]
fn who_wants_none_has_none_and_its_old_one_is_over() {
    let mut connection = Connection::new(100);
    connection.fetch((0, BEGINS), &[0], &[], |_| at(5)).unwrap();
    let told = connection.fetch((0, WITHOUT), &[0], &[], |_| at(5));
    assert_eq!(told, Ok((0, vec![0])), "all is told");
    let told = connection.fetch((NEW_ID, WITHOUT), &[0], &[], |_| at(5));
    assert_eq!(told, Ok((0, vec![0])));
    let told = connection.fetch((NEW_ID, 1), &[], &[], |_| at(5));
    assert_eq!(told, Err(NOT_FOUND));
}

#[test]
fn without_room_there_is_no_session() {
    let mut connection = Connection::new(2);
    let told = connection.fetch((0, BEGINS), &[0, 1, 2], &[], |_| at(5));
    assert_eq!(told, Ok((0, vec![0, 1, 2])));
    let told = connection.fetch((0, BEGINS), &[0, 1], &[], |_| at(5));
    assert_eq!(told, Ok((NEW_ID, vec![0, 1])));
    let told = connection.fetch((0, BEGINS), &[0, 1], &[], |_| at(5));
    assert_eq!(
        told,
        Ok((NEW_ID, vec![0, 1])),
        "its own room is free for it"
    );
    let told = connection.fetch((NEW_ID, 1), &[2], &[], |_| at(5));
    assert_eq!(
        told,
        Ok((0, vec![0, 1, 2])),
        "it has become too large, and is over"
    );
    assert_eq!(connection.room.available_permits(), 2);
}

#[test]
fn who_was_served_last_is_served_last() {
    let mut connection = Connection::new(100);
    connection
        .fetch((0, BEGINS), &[0, 1, 2], &[], |_| at(5))
        .unwrap();
    let one = |partition| match partition {
        1 => with_records(6),
        _ => at(5),
    };
    connection.fetch((NEW_ID, 1), &[], &[], one).unwrap();
    let told = connection.fetch((NEW_ID, 2), &[], &[], |_| with_records(7));
    assert_eq!(told, Ok((NEW_ID, vec![2, 0, 1])));
}
