//! What is known of the machine, as far as it matters to a node, and the logs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidegate_edge::doctor::{Mount, Standing};
use tidegate_shared::fleet::EdgeSpec;

/// A command that takes longer is given up.
const COMMAND_SECONDS_MAX: &str = "20";

const LOG_LINES_MAX: &str = "20000";
const KERNEL_LINES_MAX: usize = 500;
const FILES_MAX: usize = 5_000;

/// What the kernel says of storage, power and memory has one of these in it.
const KERNEL_WORDS: [&str; 14] = [
    "mmc",
    "sd ",
    "sda",
    "nvme",
    "usb",
    "ata",
    "i/o error",
    "ext4",
    "f2fs",
    "xfs",
    "btrfs",
    "remount",
    "voltage",
    "out of memory",
];

pub(super) fn versions() -> Value {
    let kernel = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    json!({
        "tidegate-edge": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "kernel": text(kernel.release()),
        "kernel_build": text(kernel.version()),
        "machine": text(kernel.machine()),
        "system": pretty.map(|name| name.trim_matches('"')),
    })
}

pub(super) fn facts(spec: &EdgeSpec, standing: &Standing) -> String {
    let mut out = String::new();
    let pid = standing
        .pid
        .map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let whose = match standing.pid {
        Some(_) => "the node",
        None => "this command; no node was seen",
    };
    for (title, text) in [
        (
            "uptime and load".to_owned(),
            [read("/proc/uptime"), read("/proc/loadavg")].concat(),
        ),
        (
            "processor".to_owned(),
            picked(
                "/proc/cpuinfo",
                &["model name", "Model", "Hardware", "processor"],
            ),
        ),
        (
            "memory".to_owned(),
            picked(
                "/proc/meminfo",
                &["Mem", "Swap", "Cached", "Dirty", "Writeback:"],
            ),
        ),
        (
            format!("limits of {whose}"),
            read(&format!("/proc/{pid}/limits")),
        ),
        (
            format!("memory and threads of {whose}"),
            picked(
                &format!("/proc/{pid}/status"),
                &["Vm", "Rss", "Threads", "FDSize", "Uid"],
            ),
        ),
        (
            format!("input and output of {whose}"),
            read(&format!("/proc/{pid}/io")),
        ),
        (
            "pressure of input and output".to_owned(),
            read("/proc/pressure/io"),
        ),
        ("mounts".to_owned(), mounts(&spec.data)),
        ("addresses".to_owned(), run("ip", &["-brief", "address"])),
        ("routes".to_owned(), run("ip", &["route"])),
        (
            "name servers".to_owned(),
            picked("/etc/resolv.conf", &["nameserver", "search"]),
        ),
        ("UDP".to_owned(), picked("/proc/net/snmp", &["Udp:"])),
        ("time".to_owned(), run("timedatectl", &["show"])),
        (
            "service".to_owned(),
            run(
                "systemctl",
                &[
                    "show",
                    "tidegate-edge",
                    "--property=ActiveState,SubState,NRestarts,ExecMainStatus,Result,LimitNOFILE,MemoryCurrent",
                ],
            ),
        ),
    ] {
        let _ = writeln!(out, "==== {title}\n{}\n", text.trim_end());
    }
    out
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}\n"))
}

/// Lines that begin with one of these.
fn picked(path: &str, begins: &[&str]) -> String {
    let text = read(path);
    let lines = text
        .lines()
        .filter(|line| begins.iter().any(|begin| line.starts_with(begin)));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// Kinds and room; of the options only whether it can be written, since those of networks carry passwords.
fn mounts(data: &Path) -> String {
    let of_data = Mount::of(data);
    let disks = Mount::all().into_iter().filter(|mount| {
        mount.source.starts_with('/') || ["overlay", "tmpfs", "zfs"].contains(&mount.kind.as_str())
    });
    let mut out = String::new();
    for mount in disks {
        let room = rustix::fs::statvfs(&mount.point).ok();
        let mib = |blocks: u64, size: u64| (blocks.saturating_mul(size)) >> 20;
        let (all, free) = room.map_or((0, 0), |room| {
            (
                mib(room.f_blocks, room.f_frsize),
                mib(room.f_bavail, room.f_frsize),
            )
        });
        let access = if mount.is_read_only() { "ro" } else { "rw" };
        let mark = if of_data.as_ref() == Some(&mount) {
            "  <- data"
        } else {
            ""
        };
        let (point, kind, device) = (mount.point.display(), &mount.kind, &mount.device);
        let _ = writeln!(
            out,
            "{point}  {kind}  {device}  {access}  {all} MiB, {free} MiB free{mark}"
        );
    }
    out
}

/// Sizes and times of what lies in the data folder.
pub(super) fn files(data: &Path) -> String {
    let mut out = String::new();
    let (mut folders, mut left) = (vec![data.to_owned()], FILES_MAX);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Some(metadata) = entry.metadata().ok().filter(|_| left > 0) else {
                continue;
            };
            left -= 1;
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let changed = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok());
            let changed = changed.map_or(0, |age| age.as_secs());
            let path = entry.path();
            let shown = path.strip_prefix(data).unwrap_or(&path).display();
            let _ = writeln!(
                out,
                "{:>12} B  changed {changed} s ago  {shown}",
                metadata.len()
            );
        }
    }
    out
}

/// The newest end of systemd's journal of the service.
pub(super) fn journald(bytes_max: usize) -> String {
    let arguments = [
        "--unit=tidegate-edge",
        "--no-pager",
        "--output=short-iso",
        "--lines",
        LOG_LINES_MAX,
    ];
    newest(run("journalctl", &arguments), bytes_max)
}

/// The newest end of a file.
pub(super) fn newest_of(path: &Path, bytes_max: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max as u64)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("{}: {error}\n", path.display()));
    newest(text, bytes_max)
}

/// Whole lines: half of one could be half of a secret, which nobody knows for one.
fn newest(text: String, bytes_max: usize) -> String {
    if text.len() < bytes_max {
        return text;
    }
    let mut at = text.len() - bytes_max;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    let whole = text[at..]
        .find('\n')
        .map_or(text.len(), |line_end| at + line_end + 1);
    format!("(older lines are left out)\n{}", &text[whole..])
}

pub(super) fn kernel() -> String {
    let text = run("dmesg", &["--color=never"]);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| {
            let line = line.to_lowercase();
            KERNEL_WORDS.iter().any(|word| line.contains(word))
        })
        .collect();
    lines[lines.len().saturating_sub(KERNEL_LINES_MAX)..].join("\n") + "\n"
}

/// What a command says, or why it does not.
fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command
        .args([COMMAND_SECONDS_MAX, program])
        .args(arguments)
        .env("LC_ALL", "C");
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => format!(
            "{program}: {}\n",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => format!("{program}: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_whole_lines_stay() {
        assert_eq!(newest("a\nb\n".to_owned(), 100), "a\nb\n");
        let text = "first line\nsecond\nthird\n".to_owned();
        assert_eq!(
            newest(text, 15),
            "(older lines are left out)\nsecond\nthird\n"
        );
        assert_eq!(newest("ä".repeat(10), 5), "(older lines are left out)\n");
    }
}
