//! `tidegate-edge doctor` and `doctor disk`: what was found is printed, and the exit code says whether there is a problem.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tidegate_edge::doctor::card::{self, Amount, Kept, Load, Measured, PlugTest, shown_years};
use tidegate_edge::doctor::{Level, Standing, examine};
use tidegate_shared::fleet::EdgeSpec;
use tokio::signal::unix::{SignalKind, signal};

/// Whoever has walked away: the test ends by itself.
const PLUG_TEST_MAX: Duration = Duration::from_secs(1_800);

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(subcommand)]
    command: Option<DoctorCommand>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DoctorCommand {
    /// Measure what a commit costs the disk, say how long its rated writes last, and find out, with your hand on the
    /// plug, whether it keeps what it calls stored.
    Disk(DiskArguments),
}

#[derive(Debug, Args)]
struct DiskArguments {
    /// Judge what a test has left, after the power cut.
    #[arg(long, conflicts_with_all = ["rated_writes", "load", "only_measure"])]
    check: bool,
    /// The last block number that was shown before the cut: what is missing below it was lost.
    #[arg(long, value_name = "N", requires = "check")]
    last: Option<u64>,
    /// What may be written to the disk in its life, by its data sheet (TBW), such as 30TB.
    #[arg(long, value_name = "AMOUNT")]
    rated_writes: Option<Amount>,
    /// The load to reckon with, such as 20KiB/s, instead of the one that is found.
    #[arg(long, value_name = "AMOUNT")]
    load: Option<Amount>,
    /// Measure and reckon only: no plug is pulled.
    #[arg(long)]
    only_measure: bool,
}

impl DoctorArguments {
    /// `load` reads the configuration.
    pub(crate) async fn run(
        self,
        config: Option<&Path>,
        data: Option<PathBuf>,
        load: impl FnOnce() -> anyhow::Result<EdgeSpec>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(DoctorCommand::Disk(arguments)) = self.command {
            return arguments.run(&load()?).await;
        }
        let report = examine(config, data).await;
        match self.json {
            true => println!("{:#}", report.to_json()),
            false => print!("{report}"),
        }
        Ok(match report.count(Level::Problem) {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

impl DiskArguments {
    async fn run(self, spec: &EdgeSpec) -> anyhow::Result<ExitCode> {
        if self.check {
            return check(&spec.data, self.last);
        }
        let standing = Standing::of(spec);
        if standing.is_running {
            println!("node      runs, and commits meanwhile: both are slower for it");
        }
        // Measuring writes over it.
        if let Some(left) = card::judge_what_is_left(&spec.data) {
            println!("before    {}", left?);
        }
        let free_disk_min = spec.journal.free_disk_min.0;
        let cost = card::measure(&spec.data, free_disk_min)?;
        let commits = cost.commits;
        println!("commit    {cost} ({commits} commits of one block and an fdatasync)");
        let load = self.reckon(spec, &standing);
        if self.only_measure {
            return Ok(ExitCode::SUCCESS);
        }
        let measured = Measured {
            cost,
            load_bytes_per_second: load.map_or(0, |load| load.bytes_per_second as u64),
            rated_bytes: self.rated_writes.map_or(0, |Amount(bytes)| bytes),
        };
        pull(&spec.data, free_disk_min, measured).await
    }

    /// Returns the largest load that can be reckoned with: the card has all of it.
    fn reckon(&self, spec: &EdgeSpec, standing: &Standing) -> Option<Load> {
        let loads = match self.load {
            Some(Amount(bytes)) => vec![Load {
                bytes_per_second: bytes as f64,
                seconds: f64::INFINITY,
                of: "as you say".to_owned(),
            }],
            None => card::loads(spec, standing),
        };
        for load in &loads {
            let little = match load.says_little() {
                true => "; that is not long enough to reckon with",
                false => "",
            };
            println!("load      {}: {}{little}", load.rate(), load.of);
        }
        if loads.is_empty() {
            println!("load      not known: say it with --load 20KiB/s");
        }
        let rated = self.rated_writes;
        for load in loads.iter().filter(|load| !load.says_little()) {
            let (bytes, shown) = match rated {
                Some(Amount(bytes)) => (bytes, "the rated writes last"),
                None => (
                    1_000_000_000_000,
                    "each TB of rated writes (--rated-writes) lasts",
                ),
            };
            let (years, rate) = (shown_years(load.years(bytes)), load.rate());
            println!("life      {shown} {years} at {rate}");
        }
        if let Some(device) = card::device_of(&spec.data) {
            let kind = match device.kind.as_deref() {
                Some("MMC") => " (eMMC)",
                Some("SD") => " (SD)",
                _ => "",
            };
            let says = device
                .says
                .as_deref()
                .unwrap_or("it does not say how worn it is");
            println!("device    {}{kind}: {says}", device.device);
        }
        let known = loads.into_iter().filter(|load| !load.says_little());
        known.max_by(|one, other| one.bytes_per_second.total_cmp(&other.bytes_per_second))
    }
}

fn check(data: &Path, last: Option<u64>) -> anyhow::Result<ExitCode> {
    let verdict = card::check(data, last)?;
    println!("{verdict}");
    Ok(match verdict.kept {
        Kept::Word => ExitCode::SUCCESS,
        Kept::NotShown => ExitCode::from(3),
        Kept::Broken => {
            println!("-> {}", card::LIES_ADVICE);
            ExitCode::FAILURE
        }
    })
}

/// Writes until it is stopped, or the power is.
async fn pull(data: &Path, free_disk_min: u64, measured: Measured) -> anyhow::Result<ExitCode> {
    let test = PlugTest::begin(data, free_disk_min, measured)?;
    println!(
        "\nNow the plug. Each block is synced before its number is shown. From {} on, pull the power of this machine; do not\n\
         switch it off in order. Note the last number: it is the only witness outside of the disk. Then start the machine:\n\
         the node's log says what was found, and with the number in hand\n\
         \n    tidegate-edge doctor disk --check --last N\n\
         \nsays more. Ctrl-C ends the test; nothing is left then.\n",
        test.pull_from()
    );
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = tokio::task::spawn_blocking(move || write(test, &stopped));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::pin!(writing);
    tokio::select! {
        written = &mut writing => written??,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.store(true, Ordering::Relaxed);
    if !writing.is_finished() {
        writing.await??;
    }
    println!("\nstopped; nothing is left, and nothing was shown");
    Ok(ExitCode::SUCCESS)
}

fn write(mut test: PlugTest, stop: &AtomicBool) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut out = stdout().lock();
    let is_terminal = out.is_terminal();
    let (begin, end) = if is_terminal { ("\r", "") } else { ("", "\n") };
    while !stop.load(Ordering::Relaxed) && start.elapsed() < PLUG_TEST_MAX {
        // Where the disk refuses, what is there stays: it can be judged.
        let progress = test.step()?;
        let (number, due) = (
            progress.number,
            if progress.is_due {
                ": pull the plug"
            } else {
                ""
            },
        );
        let shown = write!(
            out,
            "{begin}block {number} is on the disk, by its word{due}{end}"
        );
        if shown.and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    drop(out);
    Ok(test.give_up()?)
}
