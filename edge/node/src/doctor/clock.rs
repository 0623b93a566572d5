//! The clock: beside the cloud's, beside the certificate, beside what was written before, and whether anybody sets it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_edge_journal::is_plausible;
use tidegate_shared::fleet::EdgeSpec;

use super::network::CloudClock;
use super::times::{shown_ms, span};
use super::{Finding, certificates};

/// Clocks differ by so much without harm.
const AHEAD_MS_MAX: i64 = 30_000;

/// Past it, times in records are of no use.
const WRONG_MS: i64 = 3_600_000;

const CHECK: &str = "clock";
const SET_IT: &str = "let the board set its clock: systemd-timesyncd or chrony, with a server that it reaches, and a real-time clock with a battery where it has no link at its start. The node works meanwhile; its records are flagged (tidegate.clock) while the clock was never set";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    now_ms: i64,
    cloud: Option<CloudClock>,
    /// The uplink's certificate is not older.
    certificate_ms: Option<i64>,
    /// The journal was last written then, by this clock.
    written_ms: Option<i64>,
    /// Whether the kernel's clock is held to a server's, where the system says so.
    is_synchronised: Option<bool>,
}

pub(super) fn now_ms() -> i64 {
    ms(SystemTime::now())
}

fn ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

pub(super) fn look(spec: &EdgeSpec, cloud: Option<CloudClock>) -> Clock {
    Clock {
        now_ms: now_ms(),
        cloud,
        certificate_ms: certificates::uplink_not_before_ms(spec),
        written_ms: newest_ms(&spec.data.join("journal")),
        is_synchronised: is_synchronised(),
    }
}

/// When something in the journal's folder was written last.
fn newest_ms(journal: &Path) -> Option<i64> {
    let folders = [journal.to_owned(), journal.join("log")];
    let entries = folders.iter().flat_map(fs::read_dir).flatten().flatten();
    let times = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    times.map(ms).max()
}

/// The kernel's own word (`adjtimex(2)`), by way of systemd.
fn is_synchronised() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

pub(super) fn judge(clock: &Clock) -> Finding {
    let now = shown_ms(clock.now_ms);
    if !is_plausible(clock.now_ms) {
        return Finding::problem(
            CHECK,
            format!("it is {now}: the clock was never set"),
            SET_IT,
        );
    }
    if let Some(cloud) = clock.cloud {
        let ahead_ms = cloud.ahead_ms;
        let by = span(ahead_ms);
        let side = if ahead_ms > 0 { "behind" } else { "ahead of" };
        let found = format!("it is {now}, {by} {side} the cloud's clock");
        let off_ms = ahead_ms.abs() - cloud.round_trip_ms;
        if off_ms > WRONG_MS {
            return Finding::problem(CHECK, found, SET_IT);
        }
        if off_ms > AHEAD_MS_MAX {
            return Finding::warning(CHECK, found, SET_IT);
        }
    }
    if let Some(from_ms) = clock
        .certificate_ms
        .filter(|from_ms| clock.now_ms < *from_ms)
    {
        let from = shown_ms(from_ms);
        let found = format!("it is {now}, and the uplink's certificate was made after {from}");
        return Finding::problem(CHECK, found, SET_IT);
    }
    let written_ms = clock
        .written_ms
        .filter(|written_ms| clock.now_ms + AHEAD_MS_MAX < *written_ms);
    if let Some(written_ms) = written_ms {
        let written = shown_ms(written_ms);
        let found = format!("it is {now}, and the journal was written at {written}");
        return Finding::warning(CHECK, found, SET_IT);
    }
    match (clock.is_synchronised, clock.cloud) {
        (_, Some(_)) => Finding::ok(CHECK, format!("it is {now}, as in the cloud")),
        (Some(true), None) => Finding::ok(
            CHECK,
            format!("it is {now}, held to a time server; the cloud's is not known"),
        ),
        (Some(false), None) => Finding::warning(
            CHECK,
            format!(
                "it is {now}, which may be; no time server holds it, and the cloud's is not known"
            ),
            SET_IT,
        ),
        (None, None) => Finding::ok(
            CHECK,
            format!("it is {now}, which may be: neither the cloud nor a time server confirms it"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const NOW: i64 = 1_795_974_305_000;

    #[test]
    fn a_clock_is_held_to_whatever_is_known() {
        let good = Clock {
            now_ms: NOW,
            ..Clock::default()
        };
        let cloud = |ahead_ms, round_trip_ms| Clock {
            cloud: Some(CloudClock {
                ahead_ms,
                round_trip_ms,
            }),
            ..good
        };
        for (clock, level, says) in [
            (good, Level::Ok, "neither"),
            (
                Clock {
                    now_ms: 5_000,
                    ..good
                },
                Level::Problem,
                "never set",
            ),
            (cloud(AHEAD_MS_MAX, 0), Level::Ok, "as in the cloud"),
            (
                cloud(AHEAD_MS_MAX + 1, 0),
                Level::Warning,
                "30 seconds behind",
            ),
            (cloud(-AHEAD_MS_MAX - 1, 0), Level::Warning, "ahead of"),
            // A slow link shows less.
            (cloud(AHEAD_MS_MAX + 1, 2), Level::Ok, "as in the cloud"),
            (cloud(86_400_000, 10), Level::Problem, "24 hours behind"),
            (
                Clock {
                    certificate_ms: Some(NOW + 1),
                    ..good
                },
                Level::Problem,
                "certificate",
            ),
            (
                Clock {
                    written_ms: Some(NOW + AHEAD_MS_MAX + 1),
                    ..good
                },
                Level::Warning,
                "the journal was written",
            ),
            (
                Clock {
                    written_ms: Some(NOW),
                    ..good
                },
                Level::Ok,
                "neither",
            ),
            (
                Clock {
                    is_synchronised: Some(false),
                    ..good
                },
                Level::Warning,
                "no time server",
            ),
            (
                Clock {
                    is_synchronised: Some(true),
                    ..good
                },
                Level::Ok,
                "held to a time server",
            ),
        ] {
            let finding = judge(&clock);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(says), "{finding:?}");
        }
    }
}
