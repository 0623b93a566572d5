//! The offset map at scale: thousands of edges land in turn in a few partitions, through the real ledger
//! and the real map, in memory, and what has landed is packed as the cloud does, with its facts in real
//! segments' indexes. Shows that neither ledger nor map grows with batches, what the indexes take for one, and
//! how long a question takes with the index at hand; says so with exit code 1 where they do grow.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use tidegate_bridge_protocol::landing::Offer;
use tidegate_cloud_protocol::index::{LogPlace, SegmentId};
use tidegate_cloud_protocol::ledger::command::{
    Begin, CreateTopic, Entry, Land, OpenSession, OpenStream, Pack, Part, Tick,
};
use tidegate_cloud_protocol::ledger::{Command, Effect, Ledger, Segment, TailBatch, Target};
use tidegate_cloud_protocol::offset_map::{AllFacts, InCloud, OffsetMap, Opened, Place};
use tidegate_cloud_protocol::packing::{PackPlan, PackRule, plan};
use tidegate_cloud_protocol::segment::{PackedBatch, SegmentIndex, SegmentWriter};
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record, rewrite_in_place};

const TOPIC: TopicId = TopicId(1);
const PARTITIONS: u32 = 12;
const EDGES: u64 = 3_000;

/// About so many records lie in one batch.
const BATCH_RECORDS: u64 = 100;

/// Bytes of a record in its batch, about.
const RECORD_BYTES: u64 = 30;

/// As the cloud packs by default.
const PACK: PackRule = PackRule {
    segment_bytes: 64 << 20,
    max_age_ms: 60_000,
};

/// What the ledger keeps of a segment.
const SEGMENT_BYTES: usize = 72;

/// Batches of one tick.
const TICK_BATCHES: usize = 100;

/// Questions of each kind that are timed.
const QUESTIONS: u64 = 200_000;

#[derive(Parser)]
struct Arguments {
    /// Records that land.
    #[arg(long, default_value_t = 100_000_000)]
    records: u64,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: PathBuf,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }
}

/// Ledger and map, and where each edge's stream stands.
struct World {
    ledger: Ledger,
    map: OffsetMap,
    /// The indexes of all segments; bytes of them as they are stored.
    opened: Opened,
    index_bytes: u64,
    life: ClusterIncarnation,
    next: Vec<u64>,
    random: Random,
    batches: u64,
}

fn edge(number: u64) -> EdgeId {
    EdgeId::new(format!("edge-{number}")).expect("a name")
}

fn stream() -> StreamName {
    StreamName::new("telemetry").expect("a name")
}

impl World {
    fn begin() -> anyhow::Result<Self> {
        let mut world = Self {
            ledger: Ledger::new(),
            map: OffsetMap::new(),
            opened: Opened::new(),
            index_bytes: 0,
            life: ClusterIncarnation::default(),
            next: vec![0; EDGES as usize],
            random: Random(1),
            batches: 0,
        };
        world.apply(Command::Begin(Begin {
            now_ms: 1,
            cluster_incarnation_id: 1,
        }))?;
        let name = TopicName::new("telemetry").expect("a name");
        world.apply(Command::CreateTopic(CreateTopic {
            name: name.clone(),
            topic_id: TOPIC,
            partitions: PARTITIONS,
            changes: Vec::new(),
        }))?;
        for number in 0..EDGES {
            let open = OpenSession {
                edge: edge(number),
                store_id: StoreId(number.into()),
                seen_cluster: ClusterIncarnation::default(),
                seen_epoch: SessionEpoch(0),
            };
            let stream = OpenStream {
                edge: edge(number),
                session_epoch: SessionEpoch(1),
                stream: stream(),
                incarnation: Incarnation(0),
                topic: name.clone(),
                landed: EdgeOffset(0),
                landed_life: 0,
            };
            let entries = vec![Entry::OpenSession(open), Entry::OpenStream(stream)];
            world.apply(Command::Tick(Tick { now_ms: 2, entries }))?;
        }
        world.life = world.ledger.cluster_incarnation().context("it has begun")?;
        Ok(world)
    }

    fn apply(&mut self, command: Command) -> anyhow::Result<()> {
        for effect in self.ledger.apply(command, LogPlace::default())? {
            ensure!(!matches!(effect, Effect::Refused { .. }), "{effect:?}");
            self.map.apply(&effect, self.life)?;
        }
        Ok(())
    }

    /// One tick of batches of edges by chance.
    fn land(&mut self) -> anyhow::Result<()> {
        let mut entries = Vec::with_capacity(TICK_BATCHES);
        for _ in 0..TICK_BATCHES {
            let number = self.random.below(EDGES);
            let count = BATCH_RECORDS / 2 + self.random.below(BATCH_RECORDS);
            let next = &mut self.next[number as usize];
            entries.push(Entry::Land(Land {
                edge: edge(number),
                stream: stream(),
                offer: Offer {
                    session_epoch: SessionEpoch(1),
                    incarnation: Incarnation(1),
                    base_offset: EdgeOffset(*next),
                    count,
                    hash_before: BoundaryHash((*next).into()),
                    hash_after: BoundaryHash((*next + count).into()),
                },
                part: Part {
                    batch_bytes: (count * RECORD_BYTES) as u32,
                    ..Part::default()
                },
            }));
            *next += count;
        }
        self.batches += entries.len() as u64;
        self.apply(Command::Tick(Tick { now_ms: 3, entries }))?;
        self.pack(3)
    }

    /// Packs the tails that have grown to a segment, as the cloud does; or, at their age, all.
    fn pack(&mut self, now_ms: i64) -> anyhow::Result<()> {
        let plans = plan(&self.ledger, PACK, now_ms, &BTreeSet::new(), usize::MAX);
        let packs = plans.iter().map(|plan| self.packed(plan));
        let entries = packs.collect::<anyhow::Result<Vec<Entry>>>()?;
        match entries.is_empty() {
            true => Ok(()),
            false => self.apply(Command::Tick(Tick { now_ms: 3, entries })),
        }
    }

    fn segments(&self) -> usize {
        let logs = self.ledger.logs();
        logs.map(|(_, log)| log.segments().len()).sum()
    }

    /// The segment has the batches' headers alone, with one record each.
    fn packed(&mut self, plan: &PackPlan) -> anyhow::Result<Entry> {
        let mut builder = BatchBuilder::new();
        builder.push(&Record::default());
        let one = builder.seal(0, Compression::None, &mut Compressor::new());
        let mut writer = SegmentWriter::new(plan.target, plan.base());
        for batch in &plan.batches {
            let (base, end) = (batch.base_offset, batch.end());
            let facts = self.map.facts_in(plan.target, base, end);
            writer.push(batch_of(batch, &one), &facts)?;
        }
        let (parts, summary) = writer.finish_at(plan.end())?;
        let segment = Segment {
            id: SegmentId {
                number: self.opened.len() as u64,
                ..SegmentId::default()
            },
            base: plan.base(),
            end: plan.end(),
            bytes: summary.bytes,
            index_position: summary.index_position,
            batches: summary.batches,
            ..Segment::default()
        };
        let tail: Vec<u8> = parts[parts.len() - 2..].iter().flatten().copied().collect();
        let index = SegmentIndex::decode(&tail, summary.bytes)?;
        self.opened.insert(segment.id, Arc::new(index));
        self.index_bytes += u64::from(summary.index_bytes);
        Ok(Entry::Pack(Pack {
            target: plan.target,
            segment,
            replaces: Vec::new(),
            facts: Some(summary.facts),
        }))
    }

    fn all(&self) -> AllFacts<'_> {
        AllFacts::new(&self.ledger, &self.map, &self.opened)
    }

    fn records(&self) -> u64 {
        self.next.iter().sum()
    }

    /// Nanoseconds of a look-up from the edge's side and of one back, each sorted.
    fn ask(&mut self) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for _ in 0..QUESTIONS {
            let number = self.random.below(EDGES);
            let Some(end) = Some(self.next[number as usize]).filter(|end| *end > 0) else {
                continue;
            };
            let (edge, offset) = (edge(number), EdgeOffset(self.random.below(end)));
            let began = Instant::now();
            let all = AllFacts::new(&self.ledger, &self.map, &self.opened);
            let found = all.in_cloud(&edge, &stream(), Incarnation(1), offset);
            there.push(began.elapsed().as_nanos() as u64);
            let Ok(Some(InCloud::Landed {
                place,
                kafka_offset,
            })) = found
            else {
                anyhow::bail!("{edge} {offset}: {found:?}");
            };
            let began = Instant::now();
            let source = all.at_edge(&place, kafka_offset);
            back.push(began.elapsed().as_nanos() as u64);
            let leads_back =
                matches!(source, Ok(Some((of, at))) if of.edge == edge && at == offset);
            ensure!(leads_back, "{edge} {offset} does not lead back");
        }
        there.sort_unstable();
        back.sort_unstable();
        Ok((there, back))
    }

    /// Milliseconds of what a consumer in the middle of a partition has of each edge.
    fn translate(&self) -> Vec<u64> {
        let ask = |partition| {
            let target = Target {
                topic_id: TOPIC,
                partition: PartitionId(partition),
            };
            let place = Place {
                cluster_incarnation: self.life,
                target,
            };
            let next = self
                .ledger
                .partition(target)
                .map_or(0, |known| known.next.0);
            let began = Instant::now();
            let read = self.all().read_below(&place, KafkaOffset(next / 2));
            drop(std::hint::black_box(read));
            began.elapsed().as_micros() as u64
        };
        let mut times: Vec<u64> = (0..PARTITIONS as i32).map(ask).collect();
        times.sort_unstable();
        times
    }
}

/// All that a segment's index needs of a batch: its header, with one record behind it where there would be
/// `count`.
fn batch_of(batch: &TailBatch, one: &Bytes) -> PackedBatch {
    let mut bytes = BytesMut::from(&one[..]);
    rewrite_in_place(&mut bytes, batch.base_offset.0, 0);
    let count = batch.count as i32;
    bytes[LAST_OFFSET_DELTA..][..4].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[RECORDS_COUNT..][..4].copy_from_slice(&count.to_be_bytes());
    PackedBatch {
        bytes: bytes.freeze(),
        landed_ms: batch.landed_ms,
        min_timestamp_ms: None,
    }
}

/// Where the fields are in a batch.
const LAST_OFFSET_DELTA: usize = 23;
const RECORDS_COUNT: usize = 57;

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut world = World::begin()?;
    let (mut ledger_bytes, mut segments) = (Vec::new(), Vec::new());
    let (mut map_bytes, mut map_entries) = (Vec::new(), Vec::new());
    let (mut landing, tenth) = (0.0, arguments.records / 10);
    for part in 1..=10 {
        let began = Instant::now();
        while world.records() < tenth * part {
            world.land()?;
        }
        landing += began.elapsed().as_secs_f64();
        world.pack(i64::MAX)?;
        ledger_bytes.push(world.ledger.snapshot().len());
        segments.push(world.segments());
        map_bytes.push(world.map.snapshot().len());
        map_entries.push(world.map.size().0);
    }
    let map_memory = world.map.size().1;
    let (there, back) = world.ask()?;
    let translate = world.translate();
    let (records, batches) = (world.records(), world.batches);
    let per_batch = world.index_bytes as f64 / batches as f64;
    let (first, last) = (ledger_bytes[0], ledger_bytes[9]);
    let (few, many) = (segments[0], segments[9]);
    println!("| {records} records, {batches} batches, {EDGES} edges, {PARTITIONS} partitions | |");
    println!("|---|---|");
    println!("| landing, records/s | {:.0} |", records as f64 / landing);
    println!("| landing, batches/s | {:.0} |", batches as f64 / landing);
    println!("| ledger's bytes at a tenth, at the end | {first}, {last} |");
    println!("| segments at a tenth, at the end | {few}, {many} |");
    println!(
        "| map's snapshot at a tenth, at the end, bytes | {}, {} |",
        map_bytes[0], map_bytes[9]
    );
    println!(
        "| its entries at the end, bytes in memory | {}, {map_memory} |",
        map_entries[9]
    );
    println!("| segments' indexes, bytes per batch, as stored | {per_batch:.1} |");
    let times = [
        ("edge to cloud, ns", &there),
        ("cloud to edge, ns", &back),
        ("what a consumer has of all edges, µs", &translate),
    ];
    for (name, sorted) in times {
        let (p50, p99) = (percentile(sorted, 50), percentile(sorted, 99));
        println!("| {name}, p50, p99 | {p50}, {p99} |");
    }
    let json = format!(
        "{{\"records\": {records}, \"batches\": {batches}, \"records_per_s\": {:.0}, \"ledger_bytes\": {ledger_bytes:?}, \"segments\": {segments:?}, \"map_bytes\": {map_bytes:?}, \"map_entries\": {map_entries:?}, \"map_memory\": {map_memory}, \"index_bytes_per_batch\": {per_batch:.1}, \"to_cloud_ns\": [{}, {}], \"to_edge_ns\": [{}, {}], \"consumer_us\": [{}, {}]}}\n",
        records as f64 / landing,
        percentile(&there, 50),
        percentile(&there, 99),
        percentile(&back, 50),
        percentile(&back, 99),
        percentile(&translate, 50),
        percentile(&translate, 99),
    );
    if let Some(folder) = arguments.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&arguments.json, json)?;
    if last - first != (many - few) * SEGMENT_BYTES {
        println!("the ledger has grown with batches");
        return Ok(ExitCode::FAILURE);
    }
    // Everything is packed: an edge is in one partition, and in each of its segments at most once.
    if map_entries[9] > many * (EDGES / u64::from(PARTITIONS)) as usize * 2 {
        println!("the map has grown with batches");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
