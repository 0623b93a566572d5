//! How long the flash lasts: what is written to it, by the node and by everybody, beside what its maker promises, and what an
//! eMMC says of itself.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::survey;
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::fleet::EdgeSpec;

use super::cost::Cost;
use crate::doctor::{Mount, Standing, http_get};

const SECONDS_PER_YEAR: f64 = 31_557_600.0;

/// Ticks of `/proc`, on every architecture of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Of `/sys/dev/block/*/stat`, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;

/// A load of less than this time says little.
const SECONDS_MIN: f64 = 60.0;

/// Bytes a second, and where that is known from.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub bytes_per_second: f64,
    pub seconds: f64,
    pub of: String,
}

/// What is known of a card beside its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub cost: Cost,
    /// 0: not known.
    pub load_bytes_per_second: u64,
    /// By its data sheet; 0: nobody has said.
    pub rated_bytes: u64,
}

/// What the device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// `mmcblk0`.
    pub device: String,
    /// `MMC` (an eMMC), `SD`; nothing for others.
    pub kind: Option<String>,
    pub says: Option<String>,
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cost.median_us == 0 {
            return Ok(());
        }
        write!(formatter, "; a commit took: {}", self.cost)?;
        let load = Load::new(self.load_bytes_per_second, 1.0, "")
            .filter(|_| self.load_bytes_per_second > 0);
        match load.filter(|_| self.rated_bytes > 0) {
            Some(load) => {
                let (years, rate) = (shown_years(load.years(self.rated_bytes)), load.rate());
                write!(formatter, "; its rated writes last {years} at {rate}")
            }
            None => Ok(()),
        }
    }
}

/// For people.
pub fn shown_years(years: f64) -> String {
    match years {
        0.0..2.0 => format!("{:.0} days", years * 365.25),
        2.0..10_000.0 => format!("{years:.0} years"),
        _ => "longer than anybody asks".to_owned(),
    }
}

impl Load {
    fn new(bytes: u64, seconds: f64, of: impl Into<String>) -> Option<Self> {
        (seconds > 0.0).then(|| Self {
            bytes_per_second: bytes as f64 / seconds,
            seconds,
            of: of.into(),
        })
    }

    pub fn says_little(&self) -> bool {
        self.seconds < SECONDS_MIN
    }

    /// `20.0 KiB/s`.
    pub fn rate(&self) -> String {
        format!("{:.1} KiB/s", self.bytes_per_second / 1_024.0)
    }

    /// How many years so many bytes last.
    pub fn years(&self, rated_bytes: u64) -> f64 {
        rated_bytes as f64 / self.bytes_per_second / SECONDS_PER_YEAR
    }
}

/// The node's own, and everybody's on its device, as far as they are known.
pub fn loads(spec: &EdgeSpec, standing: &Standing) -> Vec<Load> {
    let of_node = match standing.is_running {
        true => of_process(spec, standing),
        false => of_journal(&spec.data),
    };
    of_node.into_iter().chain(of_device(&spec.data)).collect()
}

/// What the process has had written, its index and the file system's own blocks for it among that. Where `/proc` does not
/// tell that to this user, the journal's log by its own counters.
fn of_process(spec: &EdgeSpec, standing: &Standing) -> Option<Load> {
    let stat = standing.proc_file("stat")?;
    let seconds = uptime_s()? - started_s(&stat)?;
    let io = standing.proc_file("io");
    if let Some(bytes) = io.and_then(|io| field(&io, "write_bytes: ")) {
        return Load::new(bytes, seconds, "the node, since its start");
    }
    let (_, metrics) = http_get(spec.http.address, "/metrics").ok()?;
    let bytes = of_log(&metrics)?;
    Load::new(
        bytes,
        seconds,
        "the node's log without its index, since its start",
    )
}

fn of_log(metrics: &str) -> Option<u64> {
    let counter = |name| {
        field(
            metrics,
            &format!("tidegate_journal_log_{name}_bytes_total "),
        )
    };
    Some(counter("written")? + counter("filled")?)
}

fn uptime_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// When a process was started, after the machine was. Its name may hold anything.
pub(super) fn started_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// What a journal that nobody runs on keeps of its past: log files are numbered for ever, and it counts the time that it
/// was open.
fn of_journal(data: &Path) -> Option<Load> {
    let folder = data.join("journal");
    if !Directory::holds_journal(&folder) {
        return None;
    }
    let _lock = DataLock::take(data).ok()?;
    let limits = Limits {
        free_disk_min_bytes: 0,
        reserve_bytes: 0,
        ..Limits::default()
    };
    let survey = survey(&Directory::open(&folder).ok()?, limits).ok()??;
    let newest = survey.files.iter().max_by_key(|file| file.sequence)?;
    let bytes = newest.sequence * limits.log_file_bytes as u64 + newest.used_bytes as u64;
    Load::new(
        bytes,
        survey.time_ms as f64 / 1_000.0,
        "the journal's log, in all the time that it was open",
    )
}

fn of_device(data: &Path) -> Option<Load> {
    let device = block_device(data)?;
    let stat = fs::read_to_string(device.join("stat")).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    let name = device.file_name()?.to_string_lossy().into_owned();
    let of = format!("everybody on {name}, since the machine's start");
    Load::new(sectors * SECTOR_BYTES, uptime_s()?, of)
}

/// `/sys/devices/…/mmcblk0/mmcblk0p2`.
fn block_device(data: &Path) -> Option<PathBuf> {
    let mount = Mount::of(data)?;
    fs::canonicalize(Path::new("/sys/dev/block").join(&mount.device)).ok()
}

/// The device that the folder lies on, and what it says of its life.
pub fn device_of(data: &Path) -> Option<Wear> {
    let part = block_device(data)?;
    let whole = if part.join("partition").exists() {
        part.parent()?.to_owned()
    } else {
        part
    };
    Some(wear(&whole))
}

fn wear(whole: &Path) -> Wear {
    let read = |name: &str| {
        let text = fs::read_to_string(whole.join("device").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let life = read("life_time").and_then(|text| life_time(&text));
    let reserve = read("pre_eol_info").and_then(|text| pre_eol(&text));
    let says: Vec<_> = life.into_iter().chain(reserve.map(str::to_owned)).collect();
    Wear {
        device: whole
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        kind: read("type"),
        says: (!says.is_empty()).then(|| says.join("; ")),
    }
}

/// `0x01 0x02`: of the parts A and B, in tenths (JESD84-B51, EXT_CSD 268 and 269).
fn life_time(text: &str) -> Option<String> {
    let part = |text: &str| match u8::from_str_radix(text.trim_start_matches("0x"), 16).ok()? {
        tenths @ 1..=10 => Some(format!("{}–{} %", (tenths - 1) * 10, tenths * 10)),
        11 => Some("more than all".to_owned()),
        _ => None,
    };
    let parts: Vec<_> = text.split_whitespace().filter_map(part).collect();
    (!parts.is_empty()).then(|| format!("{} of its life is used", parts.join(" and ")))
}

/// EXT_CSD 267.
fn pre_eol(text: &str) -> Option<&'static str> {
    match u8::from_str_radix(text.trim_start_matches("0x"), 16).ok()? {
        1 => Some("its reserve is good"),
        2 => Some("80 % of its reserve is used: replace it soon"),
        3 => Some("90 % of its reserve is used: replace it now"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_rated_amount_lasts_so_many_years() {
        let load = Load::new(100 << 20, 1_024.0, "a test").unwrap();
        // 30 TB at 100 KiB a second.
        assert_eq!(load.years(30_000_000_000_000).round(), 9.0);
        let measured = Measured {
            cost: Cost {
                median_us: 500,
                ..Cost::default()
            },
            load_bytes_per_second: 100 << 10,
            rated_bytes: 30_000_000_000_000,
        };
        let says = measured.to_string();
        assert!(
            says.ends_with("its rated writes last 9 years at 100.0 KiB/s"),
            "{says}"
        );
        assert_eq!(Measured::default().to_string(), "");
        assert!(Load::new(1, 0.0, "nobody").is_none());
        assert!(Load::new(0, 60.0, "idle").unwrap().years(1).is_infinite());
    }

    #[test]
    fn an_emmc_tells_of_its_life() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("mmcblk1");
        let device = whole.join("device");
        fs::create_dir_all(&device).unwrap();
        assert_eq!(wear(&whole).says, None);
        fs::write(device.join("type"), "MMC\n").unwrap();
        fs::write(device.join("life_time"), "0x01 0x0b\n").unwrap();
        fs::write(device.join("pre_eol_info"), "0x02\n").unwrap();
        let found = wear(&whole);
        assert_eq!(
            (found.device.as_str(), found.kind.as_deref()),
            ("mmcblk1", Some("MMC"))
        );
        let says = found.says.unwrap();
        assert!(
            says.starts_with("0–10 % and more than all of its life"),
            "{says}"
        );
        assert!(says.contains("80 % of its reserve"), "{says}");
    }

    #[test]
    fn what_proc_tells_is_read() {
        let rest = (3..30)
            .map(|at| at.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = format!("7 (a) b) S {}", rest.split_once(' ').unwrap().1);
        // The 22nd field of proc_pid_stat(5).
        assert_eq!(started_s(&stat), Some(0.22));
        assert_eq!(
            field("a: 1\nwrite_bytes: 4096\n", "write_bytes: "),
            Some(4_096)
        );
        let metrics = "tidegate_journal_log_written_bytes_total 4096\ntidegate_journal_log_filled_bytes_total 1\n";
        assert_eq!(of_log(metrics), Some(4_097));
        assert!(uptime_s().unwrap() > 0.0);
    }
}
