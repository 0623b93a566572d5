//! What was counted while something landed, and how it is told.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::batches::{Batches, Kind};
use crate::process;

/// When to end: what comes first.
#[derive(Clone, Copy, Debug, Args)]
pub struct Until {
    #[arg(long, default_value_t = f64::MAX)]
    seconds: f64,
    /// Batches over all connections.
    #[arg(long, default_value_t = u64::MAX)]
    pub batches: u64,
}

impl Until {
    pub fn deadline(&self) -> Option<Instant> {
        let span = Duration::try_from_secs_f64(self.seconds).ok()?;
        Instant::now().checked_add(span)
    }

    /// How many of the batches are a connection's.
    pub fn share(&self, number: usize, of: usize) -> u64 {
        let (each, more) = (self.batches / of as u64, self.batches % of as u64);
        each + u64::from((number as u64) < more)
    }
}

/// Time that passes, and CPU time that a process takes meanwhile.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    server: Option<(u32, f64)>,
}

impl Watch {
    pub fn start(pid: Option<u32>) -> anyhow::Result<Self> {
        let cpu_s = pid.map(process::cpu_seconds).transpose()?;
        Ok(Self {
            began: Instant::now(),
            server: pid.zip(cpu_s),
        })
    }

    /// Seconds, and CPU seconds of the process.
    pub fn stop(self) -> anyhow::Result<(f64, Option<f64>)> {
        let seconds = self.began.elapsed().as_secs_f64();
        let Some((pid, before)) = self.server else {
            return Ok((seconds, None));
        };
        Ok((seconds, Some(process::cpu_seconds(pid)? - before)))
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    pub batches: u64,
    pub records: u64,
    /// From offer to answer.
    latencies_us: Vec<u32>,
}

impl Tally {
    pub fn add(&mut self, records: u64, offered_at: Instant) {
        self.batches += 1;
        self.records += records;
        let us = offered_at.elapsed().as_micros();
        self.latencies_us
            .push(u32::try_from(us).unwrap_or(u32::MAX));
    }

    pub fn join(&mut self, other: Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.latencies_us.extend(other.latencies_us);
    }

    /// `cpu_s` is that of the server alone.
    pub fn report(
        mut self,
        kind: &Kind,
        batches: &Batches,
        seconds: f64,
        cpu_s: Option<f64>,
    ) -> Value {
        self.latencies_us.sort_unstable();
        let at = |per_mille: usize| {
            let index = self.latencies_us.len().saturating_sub(1) * per_mille / 1_000;
            self.latencies_us.get(index).copied().unwrap_or_default()
        };
        json!({
            "records_per_batch": kind.records,
            "batch_bytes": batches.bytes,
            "value_bytes": batches.value_bytes,
            "batches": self.batches,
            "records": self.records,
            "bytes": self.batches * batches.bytes as u64,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "p50_us": at(500),
            "p99_us": at(990),
            "p999_us": at(999),
        })
    }
}
