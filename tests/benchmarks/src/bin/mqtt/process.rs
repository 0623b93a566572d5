//! What a process has used, as the kernel tells it under `/proc`.

use anyhow::Context;

/// Seconds of all threads, those that have ended included; in steps of a clock tick, 10 ms.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.clone())?;
    // utime and stime are fields 14 and 15; what is left begins with field 3.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    anyhow::ensure!(ticks.len() == 2, "{path} is short");
    Ok((ticks[0] + ticks[1]) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// What is resident of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub resident: u64,
    /// Without what other processes share: the binary's own pages are in it, libc's are not.
    pub private: u64,
}

impl Memory {
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let sum = |names: &[&str]| -> u64 {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let named = lines.filter(|(name, _)| names.contains(name));
            let kib = named.filter_map(|(_, value)| value.trim().strip_suffix(" kB"));
            kib.filter_map(|value| value.parse::<u64>().ok())
                .sum::<u64>()
                << 10
        };
        Ok(Self {
            resident: sum(&["Rss"]),
            private: sum(&["Private_Clean", "Private_Dirty"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() < 3600.0);
        let memory = Memory::of(pid).unwrap();
        assert!(memory.resident > 1 << 20 && memory.private > 0);
        assert!(memory.private <= memory.resident);
    }
}
