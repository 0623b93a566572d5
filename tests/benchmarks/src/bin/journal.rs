//! What the journal writes, and how long it takes, beside redb alone and a plain append log; how long a
//! session's replay and an opening take. Prints one line of JSON.
//!
//! `steady` runs on a virtual clock: so many messages a second, a commit at the end of each linger, a
//! checkpoint and the landing of all once a second. Only the second half is counted: by then log files
//! are recycled.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use redb::{Database, Durability, TableDefinition};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{Journal, TOPIC_HEADER, TopicProbe};
use tidegate_shared::id::{Position, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::{Batch, Compression, Header, Record};
use tidegate_shared::topic::TopicFilter;

const STREAMS: u32 = 8;
const PAYLOAD_BYTES: usize = 200;
/// Messages of the past that stores without a landing keep, in seconds.
const KEPT_S: u64 = 5;

#[derive(Debug, Parser)]
struct Arguments {
    /// Emptied first.
    #[arg(long)]
    folder: PathBuf,
    /// `/sys/block/…/stat` of the device that the folder lies on, and nothing else.
    #[arg(long)]
    device: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Writes at a rate, by a virtual clock.
    Steady {
        #[arg(long)]
        store: Store,
        #[arg(long, default_value_t = 1_000)]
        rate: u64,
        /// 0: every message is a commit of its own.
        #[arg(long)]
        linger_ms: u64,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(long)]
        payload: Payload,
    },
    /// A session with a few messages among many: how long, and how much is read.
    Replay {
        #[arg(long)]
        messages: u64,
        #[arg(long, default_value_t = 10)]
        matching: u64,
    },
    /// Opens a journal of a size after an unclean stop.
    Recovery {
        #[arg(long)]
        bytes: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Store {
    Journal,
    Redb,
    Append,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Payload {
    Json,
    Random,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = &arguments.folder;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    match arguments.what {
        What::Steady {
            store,
            rate,
            linger_ms,
            seconds,
            payload,
        } => {
            let plan = Plan {
                rate,
                per_commit: (rate * linger_ms / 1_000).max(1),
                seconds,
                payload,
            };
            let device = arguments.device.as_deref();
            match store {
                Store::Journal => steady(&plan, device, JournalStore::open(folder)?),
                Store::Redb => steady(&plan, device, RedbStore::open(folder)?),
                Store::Append => steady(&plan, device, AppendStore::open(folder)?),
            }
        }
        What::Replay { messages, matching } => replay(folder, messages, matching),
        What::Recovery { bytes } => recovery(folder, bytes),
    }
}

struct Plan {
    rate: u64,
    per_commit: u64,
    seconds: u64,
    payload: Payload,
}

/// A store under test.
trait Steady {
    fn put(&mut self, number: u64, payload: Bytes) -> anyhow::Result<()>;
    fn commit(&mut self) -> anyhow::Result<()>;
    /// A second has passed: what is older than some seconds may go.
    fn second(&mut self, number: u64) -> anyhow::Result<()>;
}

fn steady(plan: &Plan, device: Option<&Path>, mut store: impl Steady) -> anyhow::Result<()> {
    let total = plan.rate * plan.seconds;
    let mut random = Random(1);
    let mut syncs_us = Vec::new();
    let (mut written, mut start) = (written_bytes(device)?, Instant::now());
    for number in 0..total {
        if number == total / 2 {
            (written, start) = (written_bytes(device)?, Instant::now());
            syncs_us.clear();
        }
        store.put(number, payload(plan.payload, number, &mut random))?;
        if (number + 1).is_multiple_of(plan.per_commit) {
            let begin = Instant::now();
            store.commit()?;
            syncs_us.push(begin.elapsed().as_micros() as u64);
        }
        if (number + 1).is_multiple_of(plan.rate) {
            store.second(number)?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let messages = total - total / 2;
    let written = written_bytes(device)? - written;
    syncs_us.sort_unstable();
    let at = |per_mille: usize| {
        let index = (syncs_us.len() * per_mille / 1_000).min(syncs_us.len().saturating_sub(1));
        syncs_us.get(index).copied().unwrap_or_default()
    };
    println!(
        "{{\"messages_per_second\":{:.0},\"device_bytes_per_payload_byte\":{:.3},\"commit_p50_us\":{},\"commit_p99_us\":{},\"commit_p999_us\":{}}}",
        messages as f64 / seconds,
        written as f64 / (messages as f64 * PAYLOAD_BYTES as f64),
        at(500),
        at(990),
        at(999)
    );
    Ok(())
}

/// Bytes that were written to the device; 0 where it is not known which that is.
fn written_bytes(device: Option<&Path>) -> anyhow::Result<u64> {
    const WRITTEN_SECTORS: usize = 6;
    let Some(device) = device else { return Ok(0) };
    let stat = fs::read_to_string(device)?;
    let sectors = stat.split_whitespace().nth(WRITTEN_SECTORS);
    Ok(sectors.context("no such counter")?.parse::<u64>()? * 512)
}

fn io_counter(name: &str) -> anyhow::Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("no such counter")?.parse()?)
}

struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn payload(kind: Payload, number: u64, random: &mut Random) -> Bytes {
    let mut out = Vec::with_capacity(PAYLOAD_BYTES + 64);
    match kind {
        Payload::Json => {
            let value = |random: &mut Random| (random.number() % 100_000) as f64 / 100.0;
            let (a, b, c) = (value(random), value(random), value(random));
            let at_ms = 1_790_000_000_000 + number;
            let _ = write!(
                out,
                "{{\"device\":\"press-{:03}\",\"at_ms\":{at_ms},\"sequence\":{number},\"temperature_c\":{a:.2},\"pressure_kpa\":{b:.2},\"vibration_mm_s\":{c:.2},\"state\":\"running\",\"operator\":\"line-4\"}}",
                number % 50
            );
            out.resize(PAYLOAD_BYTES, b' ');
        }
        Payload::Random => {
            while out.len() < PAYLOAD_BYTES {
                out.extend(random.number().to_le_bytes());
            }
            out.truncate(PAYLOAD_BYTES);
        }
    }
    out.into()
}

struct JournalStore {
    journal: Journal,
}

fn open_journal(folder: &Path) -> anyhow::Result<Journal> {
    let limits = Limits {
        log_files_max: 4_096,
        ..Limits::default()
    };
    let medium = Arc::new(Directory::open(folder.join("journal"))?);
    let (mut journal, _) = Journal::open(medium, limits, StoreId(1))?;
    for number in 0..STREAMS {
        let name = StreamName::new(format!("line-{number}"))?;
        journal.open_stream(&name, &TopicName::new("telemetry")?, Compression::Zstd)?;
    }
    journal.commit()?;
    Ok(journal)
}

fn record(topic: String, payload: Bytes) -> Record {
    let topic = Bytes::from(topic);
    Record {
        timestamp_ms: 1_790_000_000_000,
        key: Some(topic.clone()),
        value: Some(payload),
        headers: vec![Header::new(Bytes::from_static(TOPIC_HEADER), topic)],
    }
}

impl JournalStore {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let journal = open_journal(folder)?;
        Ok(Self { journal })
    }
}

impl Steady for JournalStore {
    fn put(&mut self, number: u64, payload: Bytes) -> anyhow::Result<()> {
        let line = number as u32 % STREAMS;
        let record = record(format!("plant/line-{line}/press"), payload);
        self.journal.append(StreamId(line), &record)?;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.journal.commit()?;
        Ok(())
    }

    fn second(&mut self, _: u64) -> anyhow::Result<()> {
        for status in self.journal.reader().streams() {
            let (stream, next, hash) = (status.stream, status.next, status.hash);
            self.journal.advance_landed(stream, next, hash);
        }
        self.journal.checkpoint()?;
        Ok(())
    }
}

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");

struct RedbStore {
    database: Database,
    staged: Vec<(u64, Bytes)>,
    first: u64,
}

impl RedbStore {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let database = Database::create(folder.join("store.redb"))?;
        Ok(Self {
            database,
            staged: Vec::new(),
            first: 0,
        })
    }
}

impl Steady for RedbStore {
    fn put(&mut self, number: u64, payload: Bytes) -> anyhow::Result<()> {
        self.staged.push((number, payload));
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (number, payload) in self.staged.drain(..) {
                table.insert(number, &payload[..])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn second(&mut self, number: u64) -> anyhow::Result<()> {
        let keep_from = number.saturating_sub(KEPT_S * 1_000);
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for old in self.first..keep_from {
                table.remove(old)?;
            }
        }
        transaction.commit()?;
        self.first = self.first.max(keep_from);
        Ok(())
    }
}

/// Files of 8 MiB that are appended to and deleted.
struct AppendStore {
    folder: PathBuf,
    file: File,
    files: u64,
    at: u64,
    staged: Vec<u8>,
}

impl AppendStore {
    const FILE_BYTES: u64 = 8 << 20;

    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            file: File::create(folder.join("0"))?,
            files: 1,
            at: 0,
            staged: Vec::new(),
        })
    }
}

impl Steady for AppendStore {
    fn put(&mut self, _: u64, payload: Bytes) -> anyhow::Result<()> {
        self.staged.extend_from_slice(&payload);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.file.write_all_at(&self.staged, self.at)?;
        self.at += self.staged.len() as u64;
        self.staged.clear();
        self.file.sync_data()?;
        if self.at >= Self::FILE_BYTES {
            self.file = File::create(self.folder.join(self.files.to_string()))?;
            (self.files, self.at) = (self.files + 1, 0);
        }
        Ok(())
    }

    fn second(&mut self, _: u64) -> anyhow::Result<()> {
        if let Some(old) = self.files.checked_sub(4) {
            let _ = fs::remove_file(self.folder.join(old.to_string()));
        }
        Ok(())
    }
}

/// Fills a journal with random payloads; each `every`th goes to a topic of its own.
fn fill(journal: &mut Journal, messages: u64, every: u64) -> anyhow::Result<()> {
    let mut random = Random(1);
    for number in 0..messages {
        let line = number as u32 % STREAMS;
        let topic = match number % every {
            1 => format!("rare/line-{line}"),
            _ => format!("plant/line-{line}/press-{}", number % 1_000),
        };
        let record = record(topic, payload(Payload::Random, number, &mut random));
        journal.append(StreamId(line), &record)?;
        if (number + 1).is_multiple_of(1_000) {
            journal.commit()?;
            if journal.checkpoint_is_due() {
                journal.checkpoint()?;
            }
        }
    }
    journal.commit()?;
    Ok(())
}

fn replay(folder: &Path, messages: u64, matching: u64) -> anyhow::Result<()> {
    let mut journal = open_journal(folder)?;
    fill(&mut journal, messages, messages / matching)?;
    journal.checkpoint()?;
    drop(journal);
    // As after a start: nothing is cached but by the system.
    let journal = open_journal(folder)?;
    let log_bytes = folder_bytes(&folder.join("journal"))?;
    let filter = TopicFilter::new("rare/#")?;
    let probe = TopicProbe::new([&filter]);
    let (read_before, start) = (io_counter("rchar: ")?, Instant::now());
    let (mut next, mut found) = (Position(0), 0);
    let reader = journal.reader();
    while next < reader.next_position() {
        let read = reader.read_log(next, &probe, 1 << 20)?;
        for chunk in &read.chunks {
            for record in Batch::parse(chunk.batch.clone())?.records()? {
                let headers = record?.1.headers;
                let topic = headers[0].value.as_deref().unwrap_or_default();
                found += u64::from(filter.matches(std::str::from_utf8(topic)?));
            }
        }
        next = read.next;
    }
    let seconds = start.elapsed().as_secs_f64();
    ensure!(found == matching, "{found} of {matching} were found");
    let read = io_counter("rchar: ")? - read_before;
    println!(
        "{{\"messages\":{messages},\"found\":{found},\"seconds\":{seconds:.3},\"read_bytes\":{read},\"log_bytes\":{log_bytes},\"read_share\":{:.4}}}",
        read as f64 / log_bytes as f64
    );
    Ok(())
}

fn recovery(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut journal = open_journal(folder)?;
    fill(&mut journal, bytes / 256, u64::MAX)?;
    // The end of a process: what is past the last checkpoint is replayed.
    drop(journal);
    let start = Instant::now();
    let medium = Arc::new(Directory::open(folder.join("journal"))?);
    let limits = Limits {
        log_files_max: 4_096,
        ..Limits::default()
    };
    let (journal, report) = Journal::open(medium, limits, StoreId(1))?;
    let seconds = start.elapsed().as_secs_f64();
    drop(journal);
    let log_bytes = folder_bytes(&folder.join("journal"))?;
    println!(
        "{{\"log_bytes\":{log_bytes},\"frames_replayed\":{},\"seconds\":{seconds:.3}}}",
        report.frames_replayed
    );
    Ok(())
}

fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => folder_bytes(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
