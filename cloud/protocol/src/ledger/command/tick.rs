//! Command 3: one bounded command per tick, with all that has gathered.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::{
    AddRules, AddStore, AllotProducer, AlterTopic, AlterUser, CommitOffsets, DecodeError,
    ForgetOffsets, ForkStream, ImportFacts, KeepGeneration, Land, LandGap, OpenBroker, OpenSession,
    OpenStream, Pack, Part, Produce, ReleaseEdge, RemoveRules, Row, Swept, Trim,
};

/// What has gathered since the last tick, in the order in which it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Milliseconds since the Unix epoch. The ledger's time never goes back: a smaller one is taken
    /// as the newest it has seen.
    pub now_ms: i64,
    pub entries: Vec<Entry>,
}

/// One wish within a tick. Each has a number of its own, never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Number 1: grants an edge its next session epoch.
    OpenSession(OpenSession),
    /// Number 2: announces a stream.
    OpenStream(OpenStream),
    /// Number 3: lands a batch.
    Land(Land),
    /// Number 4: commits a group's offsets.
    CommitOffsets(CommitOffsets),
    /// Number 5: lands a gap of an edge's stream.
    LandGap(LandGap),
    /// Number 6: begins a new incarnation of a stream.
    ForkStream(ForkStream),
    /// Number 7: lets an edge out of quarantine.
    ReleaseEdge(ReleaseEdge),
    /// Number 8: takes facts into the offset map.
    ImportFacts(ImportFacts),
    /// Number 9: puts a segment in the place of what it has the batches of.
    Pack(Pack),
    /// Number 10: a partition begins later.
    Trim(Trim),
    /// Number 11: changes a topic's settings.
    AlterTopic(AlterTopic),
    /// Number 12: objects that nothing needs are deleted.
    Swept(Swept),
    /// Number 13: a broker begins its work.
    OpenBroker(OpenBroker),
    /// Number 14: an object store gets a number.
    AddStore(AddStore),
    /// Number 15: takes a batch of a Kafka client.
    Produce(Produce),
    /// Number 16: an id for a Kafka producer.
    AllotProducer(AllotProducer),
    /// Number 17: forgets a group's offsets.
    ForgetOffsets(ForgetOffsets),
    /// Number 18: changes a user.
    AlterUser(AlterUser),
    /// Number 19: keeps what a group's leader has assigned.
    KeepGeneration(KeepGeneration),
    /// Number 20: who may do what, more of it.
    AddRules(AddRules),
    /// Number 21: who may do what, less of it.
    RemoveRules(RemoveRules),
}

impl Entry {
    /// Where its batch lies among the attachments, where it has one.
    pub fn part_mut(&mut self) -> Option<&mut Part> {
        match self {
            Self::Land(land) => Some(&mut land.part),
            Self::Produce(produce) => Some(&mut produce.part),
            _ => None,
        }
    }

    /// The shortest entry: number and version.
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::OpenSession(row) => row.put_row(out),
            Self::OpenStream(row) => row.put_row(out),
            Self::Land(row) => row.put_row(out),
            Self::CommitOffsets(row) => row.put_row(out),
            Self::LandGap(row) => row.put_row(out),
            Self::ForkStream(row) => row.put_row(out),
            Self::ReleaseEdge(row) => row.put_row(out),
            Self::ImportFacts(row) => row.put_row(out),
            Self::Pack(row) => row.put_row(out),
            Self::Trim(row) => row.put_row(out),
            Self::AlterTopic(row) => row.put_row(out),
            Self::Swept(row) => row.put_row(out),
            Self::OpenBroker(row) => row.put_row(out),
            Self::AddStore(row) => row.put_row(out),
            Self::Produce(row) => row.put_row(out),
            Self::AllotProducer(row) => row.put_row(out),
            Self::ForgetOffsets(row) => row.put_row(out),
            Self::AlterUser(row) => row.put_row(out),
            Self::KeepGeneration(row) => row.put_row(out),
            Self::AddRules(row) => row.put_row(out),
            Self::RemoveRules(row) => row.put_row(out),
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("entry number")? {
            OpenSession::NUMBER => Self::OpenSession(OpenSession::take_row(reader)?),
            OpenStream::NUMBER => Self::OpenStream(OpenStream::take_row(reader)?),
            Land::NUMBER => Self::Land(Land::take_row(reader)?),
            CommitOffsets::NUMBER => Self::CommitOffsets(CommitOffsets::take_row(reader)?),
            LandGap::NUMBER => Self::LandGap(LandGap::take_row(reader)?),
            ForkStream::NUMBER => Self::ForkStream(ForkStream::take_row(reader)?),
            ImportFacts::NUMBER => Self::ImportFacts(ImportFacts::take_row(reader)?),
            ReleaseEdge::NUMBER => Self::ReleaseEdge(ReleaseEdge::take_row(reader)?),
            Pack::NUMBER => Self::Pack(Pack::take_row(reader)?),
            Trim::NUMBER => Self::Trim(Trim::take_row(reader)?),
            AlterTopic::NUMBER => Self::AlterTopic(AlterTopic::take_row(reader)?),
            Swept::NUMBER => Self::Swept(Swept::take_row(reader)?),
            OpenBroker::NUMBER => Self::OpenBroker(OpenBroker::take_row(reader)?),
            AddStore::NUMBER => Self::AddStore(AddStore::take_row(reader)?),
            Produce::NUMBER => Self::Produce(Produce::take_row(reader)?),
            AllotProducer::NUMBER => Self::AllotProducer(AllotProducer::take_row(reader)?),
            ForgetOffsets::NUMBER => Self::ForgetOffsets(ForgetOffsets::take_row(reader)?),
            AlterUser::NUMBER => Self::AlterUser(AlterUser::take_row(reader)?),
            KeepGeneration::NUMBER => Self::KeepGeneration(KeepGeneration::take_row(reader)?),
            AddRules::NUMBER => Self::AddRules(AddRules::take_row(reader)?),
            RemoveRules::NUMBER => Self::RemoveRules(RemoveRules::take_row(reader)?),
            number => {
                let what = "entry";
                return Err(DecodeError::UnknownNumber { what, number });
            }
        })
    }
}

impl Row for Tick {
    const WHAT: &'static str = "command tick";
    const NUMBER: u8 = 3;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_i64_le(self.now_ms);
        out.put_u32_le(u32::try_from(self.entries.len()).expect("a tick is bounded"));
        for entry in &self.entries {
            entry.put(out);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let now_ms = reader.i64("time")?;
        let count = reader.count("entries", Entry::BYTES_MIN)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry::take(reader)?);
        }
        Ok(Self { now_ms, entries })
    }
}
