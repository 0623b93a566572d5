//! A month in an hour: the journal at most of its disk, by a virtual clock, with a checkpoint a second
//! and a restart now and then. Streams with different retention leave holes; one stream pins a little of
//! every log file; one session is slow. Exits with 1 where the disk outgrows what lives on it.
//!
//! Disk is all log files but the spares, and the index. What lives is the chunks, as they stand in their
//! frames, of what retention keeps; frames' own headers, padding to whole blocks, and what only the slow
//! session still needs, do not count as living.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{
    CommitError, Journal, Overflow, Retention, StreamPolicy, TOPIC_HEADER, Tick,
};
use tidegate_shared::id::{Position, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::{Compression, Header, Record};

const RATE: u64 = 2_000;
const COMMITS_PER_SECOND: u64 = 4;
const PAYLOAD_BYTES: usize = 80;
const RATIO_MAX: f64 = 1.3;
const DISK_BYTES: u64 = 1 << 30;
/// The first of it, in which the disk fills up, is not judged.
const WARM_UP_S: u64 = 5 * 3_600;

#[derive(Debug, Parser)]
struct Arguments {
    /// Emptied first.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value_t = 100_000_000)]
    records: u64,
    /// Restarts in all.
    #[arg(long, default_value_t = 50)]
    kills: u64,
}

/// What a stream does; its share of the records is in parts of a hundred.
struct Line {
    name: &'static str,
    share: u64,
    policy: StreamPolicy,
    lands: Lands,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lands {
    AtOnce,
    Never,
}

fn lines() -> Vec<Line> {
    let policy = |retention: Retention, overflow| StreamPolicy {
        retention,
        overflow,
    };
    let minutes = |minutes: u64| minutes * 60_000;
    let default = Retention::default();
    let line = |name, share, lands, retention, overflow| Line {
        name,
        share,
        policy: policy(retention, overflow),
        lands,
    };
    let (age, keep) = (Some(minutes(45)), minutes(20));
    vec![
        line("landing", 30, Lands::AtOnce, default, Overflow::Reject),
        line(
            "kept",
            20,
            Lands::AtOnce,
            Retention {
                keep_after_landed_ms: keep,
                ..default
            },
            Overflow::Reject,
        ),
        line(
            "aging",
            29,
            Lands::Never,
            Retention {
                age_ms: age,
                ..default
            },
            Overflow::Reject,
        ),
        line(
            "bounded",
            20,
            Lands::Never,
            Retention {
                bytes: Some(590 << 20),
                ..default
            },
            Overflow::Reject,
        ),
        // A record in a hundred, each kept for an hour and a half: a little of every file.
        line(
            "pinning",
            1,
            Lands::Never,
            Retention {
                age_ms: Some(minutes(90)),
                ..default
            },
            Overflow::Reject,
        ),
    ]
}

struct Life {
    folder: PathBuf,
    lines: Vec<Line>,
    journal: Journal,
    streams: Vec<StreamId>,
    /// Virtual; the journal's clock counts from its opening.
    now_ms: u64,
    opened_at_ms: u64,
    random: u64,
    /// What checkpoints kept commits waiting for: freezing and finishing.
    stalls_us: Vec<u64>,
    checkpoints_us: Vec<u64>,
    refused: u64,
    worst: f64,
    /// Of the lives before this one: bytes that the cleaner copied, and all of the log's.
    cleaned_bytes: u64,
    log_bytes: u64,
    index_bytes_max: u64,
    /// The slow session's position.
    session_at: Position,
}

fn open(folder: &Path, lines: &[Line]) -> anyhow::Result<(Journal, Vec<StreamId>)> {
    let limits = Limits {
        log_files_max: (DISK_BYTES >> 23) as usize,
        free_disk_min_bytes: 0,
        ..Limits::default()
    };
    let medium = Arc::new(Directory::open(folder.join("journal"))?);
    let (mut journal, _) = Journal::open(medium, limits, StoreId(1))?;
    let mut streams = Vec::new();
    for line in lines {
        let (name, topic) = (StreamName::new(line.name)?, TopicName::new("telemetry")?);
        let stream = journal.open_stream(&name, &topic, Compression::None)?;
        journal.set_policy(stream, line.policy);
        streams.push(stream);
    }
    journal.commit()?;
    Ok((journal, streams))
}

impl Life {
    fn begin(folder: &Path) -> anyhow::Result<Self> {
        let lines = lines();
        let (journal, streams) = open(folder, &lines)?;
        Ok(Self {
            folder: folder.to_owned(),
            lines,
            journal,
            streams,
            now_ms: 0,
            opened_at_ms: 0,
            random: 1,
            stalls_us: Vec::new(),
            checkpoints_us: Vec::new(),
            refused: 0,
            worst: 0.0,
            cleaned_bytes: 0,
            log_bytes: 0,
            index_bytes_max: 0,
            session_at: Position(0),
        })
    }

    /// As after `kill -9`: no checkpoint, no goodbye.
    fn kill(mut self) -> anyhow::Result<Self> {
        let stats = self.journal.stats();
        self.cleaned_bytes += stats.cleaned_bytes;
        self.log_bytes += stats.log_bytes;
        drop(self.journal);
        (self.journal, self.streams) = open(&self.folder, &self.lines)?;
        self.opened_at_ms = self.now_ms;
        Ok(self)
    }

    fn record(&mut self) -> (StreamId, Record) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let mut share = self.random % 100;
        let line = self.lines.iter().position(|line| {
            let is_it = share < line.share;
            share = share.saturating_sub(line.share);
            is_it
        });
        let line = line.unwrap_or_default();
        let mut value = Vec::with_capacity(PAYLOAD_BYTES);
        let mut noise = self.random;
        while value.len() < PAYLOAD_BYTES {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            value.extend(noise.to_le_bytes());
        }
        let topic = Bytes::from_static(self.lines[line].name.as_bytes());
        let record = Record {
            timestamp_ms: 1_790_000_000_000 + self.now_ms as i64,
            key: None,
            value: Some(value.into()),
            headers: vec![Header::new(Bytes::from_static(TOPIC_HEADER), topic)],
        };
        (self.streams[line], record)
    }

    /// One virtual second: records, commits, what lands, the session, retention, a checkpoint.
    fn second(&mut self) -> anyhow::Result<()> {
        for _ in 0..COMMITS_PER_SECOND {
            for _ in 0..RATE / COMMITS_PER_SECOND {
                let (stream, record) = self.record();
                self.journal.append(stream, &record)?;
            }
            self.now_ms += 1_000 / COMMITS_PER_SECOND;
            self.journal.tick(Tick {
                monotonic_ms_since_open: self.now_ms - self.opened_at_ms,
                wall_ms: 1_790_000_000_000 + self.now_ms as i64,
            });
            match self.journal.commit() {
                Ok(_) => {}
                Err(CommitError::Full) => self.refused += RATE / COMMITS_PER_SECOND,
                Err(error) => return Err(error.into()),
            }
        }
        for (line, stream) in self.lines.iter().zip(&self.streams) {
            if line.lands == Lands::AtOnce
                && let Some(status) = self.journal.reader().stream(*stream)
            {
                self.journal
                    .advance_landed(*stream, status.next, status.hash);
            }
        }
        // The session reads up to the end each two minutes.
        if self.now_ms.is_multiple_of(120_000) {
            self.session_at = self.journal.reader().next_position();
            self.journal.set_needed_from(self.session_at);
        }
        self.journal.retain()?;
        self.checkpoint()
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let Some(job) = self.journal.begin_checkpoint() else {
            return Ok(());
        };
        let frozen = start.elapsed();
        // In the node this runs beside the commits.
        let done = job.run();
        let written = start.elapsed();
        let finish = Instant::now();
        self.journal.finish_checkpoint(done)?;
        self.stalls_us
            .push((frozen + finish.elapsed()).as_micros() as u64);
        self.checkpoints_us
            .push((written - frozen).as_micros() as u64);
        Ok(())
    }

    /// Disk over what lives on it.
    fn judge(&mut self) -> anyhow::Result<f64> {
        let stats = self.journal.stats();
        let index = fs::metadata(self.folder.join("journal/index.redb"))?.len();
        self.index_bytes_max = self.index_bytes_max.max(index);
        let disk = ((stats.log_files - stats.log_files_spare) as u64 * (8 << 20) + index) as f64;
        let living = self.journal.living_log_bytes();
        let ratio = disk / living as f64;
        if self.now_ms >= WARM_UP_S * 1_000 {
            self.worst = self.worst.max(ratio);
        }
        Ok(ratio)
    }
}

impl Life {
    /// Log bytes written for each that would be without the cleaner.
    fn write_amplification(&self) -> f64 {
        let stats = self.journal.stats();
        let cleaned = (self.cleaned_bytes + stats.cleaned_bytes) as f64;
        let log = (self.log_bytes + stats.log_bytes) as f64;
        log / (log - cleaned)
    }
}

fn per_mille(values: &mut [u64], share: usize) -> f64 {
    values.sort_unstable();
    let index = (values.len() * share / 1_000).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or_default() as f64 / 1_000.0
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = &arguments.folder;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let seconds = arguments.records / RATE;
    let kill_each = (seconds / (arguments.kills + 1)).max(1);
    let (mut life, start) = (Life::begin(folder)?, Instant::now());
    for second in 1..=seconds {
        life.second()?;
        if second.is_multiple_of(60) {
            life.judge()?;
        }
        if second.is_multiple_of(kill_each) {
            life = life.kill()?;
        }
        if second.is_multiple_of((seconds / 10).max(1)) {
            let (hours, ratio) = (second as f64 / 3_600.0, life.judge()?);
            eprintln!(
                "{hours:.1} h, {} s here: disk is {ratio:.2} of what lives, index {} KiB, {:.2} bytes written a byte, {} records lost by policy, {} refused",
                start.elapsed().as_secs(),
                life.index_bytes_max >> 10,
                life.write_amplification(),
                life.journal.stats().gap_records,
                life.refused
            );
        }
    }
    let held = life.worst <= RATIO_MAX && life.worst > 0.0 && life.refused == 0;
    println!(
        "{{\"records\":{},\"virtual_hours\":{:.1},\"seconds\":{},\"kills\":{},\"disk_over_living_worst\":{:.3},\"index_bytes_max\":{},\"checkpoint_stall_ms_p999\":{:.2},\"checkpoint_ms_p999\":{:.2},\"log_write_amplification\":{:.3},\"refused\":{},\"held\":{held}}}",
        arguments.records,
        seconds as f64 / 3_600.0,
        start.elapsed().as_secs(),
        arguments.kills,
        life.worst,
        life.index_bytes_max,
        per_mille(&mut life.stalls_us, 999),
        per_mille(&mut life.checkpoints_us, 999),
        life.write_amplification(),
        life.refused
    );
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
