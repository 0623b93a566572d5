use super::testing::{EPOCH, batch, lying, sent};
use super::*;

#[tokio::test]
async fn batches_are_read_a_chunk_at_a_time_and_sent_with_their_offsets() {
    let batches = [10, 20_000, 300, 70_000, 5, 5, 40_000].map(batch);
    for apart in [&[][..], &[0, 3], &[0, 1, 2, 3, 4, 5, 6]] {
        for bytes_max in [1, 1_000, 65_536, 1 << 20] {
            let (_file, lying) = lying(&batches, apart);
            let mut run = Run::new(lying, EPOCH);
            let mut ahead = 1_000;
            run.look_at_first(&mut ahead, |_| false).await.unwrap();
            assert_eq!(ahead, 1_000 - batches[0].len());
            let (mut chunk, mut all) = (Chunk::default(), Vec::new());
            while !run.is_empty() {
                let left = run.bytes();
                let first = run.next_bytes();
                chunk.clear();
                run.read(&mut chunk, bytes_max).await.unwrap();
                assert_eq!(chunk.filled().len(), left - run.bytes());
                assert!(chunk.filled().len() <= bytes_max.max(first));
                all.extend_from_slice(chunk.filled());
            }
            assert_eq!(
                (all, run.bytes()),
                (sent(&batches), 0),
                "{apart:?} {bytes_max}"
            );
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_not_as_it_was_written_stays_and_those_before_it_are_read() {
    let batches = [100, 200, 300].map(batch);
    let (file, lying) = lying(&batches, &[]);
    let second = (batches[0].len() + batches[1].len()) as u64;
    file.write_all_at(b"x", second - 3).unwrap();
    let mut run = Run::new(lying, EPOCH);
    let mut chunk = Chunk::default();
    let told = run.read(&mut chunk, 1 << 20).await;
    assert!(
        matches!(told, Err(StorageError::Damaged(place)) if place.position() == batches[0].len() as u64)
    );
    assert_eq!(chunk.filled(), sent(&batches[..1]));
    assert_eq!(run.next(), Some(KafkaOffset(1)));
    assert_eq!(run.bytes(), batches[1].len() + batches[2].len());
    let told = run.look_at_first(&mut 1_000, |_| false).await;
    assert!(matches!(told, Err(StorageError::Damaged(_))));
    let told = run.look_at_first(&mut 10, |_| false).await;
    assert!(told.is_ok(), "there is no room to look at it");
    let told = run
        .look_at_first(&mut 10, |place| place.position() > 0)
        .await;
    assert!(
        matches!(told, Err(StorageError::Damaged(_))),
        "it is suspect"
    );
    let told = run.read_all().await;
    assert!(
        matches!(told, Err(StorageError::Damaged(_))),
        "nothing behind it is given"
    );
}

#[tokio::test]
async fn a_batch_of_a_segment_is_what_its_index_says() {
    let batches = [100, 200].map(batch);
    let (_file, mut lying) = lying(&batches, &[]);
    for (batch, bytes) in lying.iter_mut().zip(&batches) {
        if let Lies::InFile(lying) = &mut batch.lies {
            lying.crc = Some(crc32c::crc32c(bytes));
        }
    }
    let whole = Run::new(lying.clone(), EPOCH).read_all().await.unwrap();
    assert_eq!(whole, sent(&batches));
    // Whole, but another one: its own CRC alone would not tell.
    if let Lies::InFile(lying) = &mut lying[1].lies {
        lying.crc = Some(crc32c::crc32c(&batches[0]));
    }
    let told = Run::new(lying, EPOCH).read_all().await.unwrap();
    assert_eq!(told, sent(&batches[..1]));
}

#[tokio::test]
async fn a_file_that_is_shorter_is_an_error() {
    let batches = [100, 200].map(batch);
    let (file, lying) = lying(&batches, &[]);
    file.set_len(batches[0].len() as u64 + 5).unwrap();
    let mut run = Run::new(lying, EPOCH);
    let told = run.read(&mut Chunk::default(), 1 << 20).await;
    assert!(matches!(told, Err(StorageError::Io { .. })));
}
