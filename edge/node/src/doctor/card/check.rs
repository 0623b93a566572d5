//! After the cut: reads what is on the card, judges it, and keeps the result in a small file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::judge::{Facts, Kept, LIES_ADVICE, Verdict, judge};
use super::pattern::{BLOCK_BYTES, BLOCKS, Header, Kind, PROMISES, decode, offset};
use super::plug;
use crate::doctor::clock::now_ms;

const RESULT: &str = "plug-test.json";

fn result_path(data: &Path) -> PathBuf {
    plug::folder(data).join(RESULT)
}

/// What the last test has shown, if there was one.
pub fn kept_verdict(data: &Path) -> Option<Verdict> {
    let text = fs::read_to_string(result_path(data)).ok()?;
    let facts: Facts = serde_json::from_str(&text).ok()?;
    Some(judge(facts, shown(&facts)))
}

fn shown(facts: &Facts) -> Option<u64> {
    (facts.shown > 0).then_some(facts.shown)
}

/// Judges what a test has left, or its result again, now that `last` is known.
///
/// # Errors
/// There is nothing to judge, or it cannot be read.
pub fn check(data: &Path, last: Option<u64>) -> anyhow::Result<Verdict> {
    let path = plug::file_path(data);
    let facts = match File::open(&path) {
        Ok(file) => {
            if file.try_lock_shared().is_err() {
                bail!("the test on {} still runs", path.display());
            }
            let facts = read(&file).with_context(|| format!("cannot read {}", path.display()))?;
            keep(data, &facts)
                .with_context(|| format!("cannot write {}", result_path(data).display()))?;
            fs::remove_file(&path)?;
            facts
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let kept = kept_verdict(data).map(|verdict| verdict.facts);
            match (kept, last) {
                (Some(facts), _) => facts,
                // Its file was synced before anything was shown.
                (None, Some(_)) => Facts::default(),
                (None, None) => bail!(
                    "there is no test to judge in {}: it was never begun, or stopped without a power cut",
                    plug::folder(data).display()
                ),
            }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut facts = facts;
    if let Some(last) = last.filter(|last| *last > facts.shown) {
        // It counts from now on, whoever asks.
        facts.shown = last;
        if plug::folder(data).is_dir() {
            keep(data, &facts)
                .with_context(|| format!("cannot write {}", result_path(data).display()))?;
        }
    }
    Ok(judge(facts, shown(&facts)))
}

/// Judges what a test has left that was not judged yet; `None` where there is nothing, or the test still runs.
pub fn judge_what_is_left(data: &Path) -> Option<anyhow::Result<Verdict>> {
    let file = File::open(plug::file_path(data)).ok()?;
    // A test that runs holds its file's lock.
    file.try_lock_shared().ok()?;
    drop(file);
    Some(check(data, None))
}

/// At a node's start: says in its log what a test has shown.
pub fn judge_at_start(data: &Path) {
    match judge_what_is_left(data) {
        None => {}
        Some(Ok(verdict)) => match verdict.kept {
            Kept::Word => tracing::info!(%verdict, "doctor disk"),
            Kept::NotShown => tracing::warn!(%verdict, "doctor disk"),
            Kept::Broken => tracing::error!(%verdict, "doctor disk: {LIES_ADVICE}"),
        },
        Some(Err(error)) => {
            let why = format!("{error:#}");
            tracing::warn!(why, "doctor disk: the test cannot be judged");
        }
    }
}

/// What was shown before no longer counts.
pub(super) fn forget(data: &Path) -> io::Result<()> {
    match fs::remove_file(result_path(data)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::open(plug::folder(data))?.sync_all(),
    }
}

fn keep(data: &Path, facts: &Facts) -> io::Result<()> {
    let path = result_path(data);
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(facts)?)?;
    file.sync_all()?;
    let owner = fs::metadata(data)?;
    if fs::metadata(&beside)?.uid() != owner.uid() {
        chown(&beside, Some(owner.uid()), Some(owner.gid()))?;
    }
    fs::rename(&beside, &path)?;
    File::open(plug::folder(data))?.sync_all()
}

fn read(file: &File) -> io::Result<Facts> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut found = |kind, number, run| -> io::Result<Option<u64>> {
        match file.read_exact_at(&mut block, offset(kind, number)) {
            Ok(()) => Ok(decode(&block, kind, run)),
            // A file that is shorter than it was made has lost what is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    };
    let mut header = vec![0; BLOCK_BYTES];
    // A header that is gone was synced before the first block: nothing is there, and all that was shown is lost.
    let whole = file.read_exact_at(&mut header, 0).is_ok();
    let header = Header::decode(&header)
        .filter(|_| whole)
        .unwrap_or_default();
    let run = header.run;
    let slots = |count| 1..=count;
    let promises = slots(PROMISES).map(|slot| found(Kind::Promise, slot, run));
    let promises: Vec<_> = promises.collect::<io::Result<_>>()?;
    let blocks = slots(BLOCKS).map(|slot| found(Kind::Block, slot, run));
    let blocks: Vec<_> = blocks.collect::<io::Result<_>>()?;
    Ok(Facts {
        pull_from: header.pull_from,
        shown: 0,
        measured: header.measured,
        same_life: header.life.may_be(plug::life(file)),
        at_ms: now_ms(),
        ..compare(&promises, &blocks)
    })
}

/// Both rings as they were found, slot by slot.
fn compare(promises: &[Option<u64>], blocks: &[Option<u64>]) -> Facts {
    let newest = |ring: &[Option<u64>]| ring.iter().flatten().copied().max().unwrap_or_default();
    let (promised, newest) = (newest(promises), newest(blocks));
    let mut missing: Vec<_> = must_be_there(promised, PROMISES)
        .filter(|number| promises[((number - 1) % PROMISES) as usize] != Some(*number))
        .collect();
    missing.extend(must_be_there(promised, BLOCKS).filter(|number| {
        let found = blocks[((number - 1) % BLOCKS) as usize];
        found.is_none_or(|found| found < *number)
    }));
    Facts {
        promised,
        newest,
        missing: missing.len() as u64,
        first_missing: missing.into_iter().min().unwrap_or_default(),
        ..Facts::default()
    }
}

/// Of a ring that goes up to `newest`. What the one after it was to be written over may be torn.
fn must_be_there(newest: u64, slots: u64) -> std::ops::RangeInclusive<u64> {
    (newest + 2).saturating_sub(slots).max(1)..=newest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::super::plug::PlugTest;
    use super::super::wear::Measured;
    use super::*;

    /// The rings after so many whole steps.
    fn after(steps: u64) -> (Vec<Option<u64>>, Vec<Option<u64>>) {
        let (mut promises, mut blocks) =
            (vec![None; PROMISES as usize], vec![None; BLOCKS as usize]);
        for number in 1..=steps {
            write(&mut blocks, number, Some(number));
            write(&mut promises, number, Some(number));
        }
        (promises, blocks)
    }

    fn write(ring: &mut [Option<u64>], number: u64, value: Option<u64>) {
        let slots = ring.len() as u64;
        ring[((number - 1) % slots) as usize] = value;
    }

    fn broken(promises: &[Option<u64>], blocks: &[Option<u64>]) -> bool {
        let facts = Facts {
            same_life: false,
            ..compare(promises, blocks)
        };
        judge(facts, None).kept == Kept::Broken
    }

    proptest! {
        /// Whatever of the write under way has got through, and however torn.
        #[test]
        fn an_honest_card_is_never_blamed(steps in 0_u64..9_000, wrote_promise: bool, is_torn: bool) {
            let (mut promises, mut blocks) = after(steps);
            let next = steps + 1;
            let under_way = (!is_torn).then_some(next);
            if wrote_promise {
                write(&mut blocks, next, Some(next));
                write(&mut promises, next, under_way);
            } else {
                write(&mut blocks, next, under_way);
            }
            prop_assert!(!broken(&promises, &blocks));
        }

        #[test]
        fn a_card_that_loses_one_block_is_found(steps in 1_u64..9_000, back in 0_u64..PROMISES - 1, of_promise: bool) {
            let (mut promises, mut blocks) = after(steps);
            let number = steps.saturating_sub(back).max(1);
            let stale = |slots| number.checked_sub(slots).filter(|number| *number > 0);
            // Not the newest promise: that it was ever there only the terminal knows.
            if of_promise && number < steps {
                write(&mut promises, number, stale(PROMISES));
            } else {
                write(&mut blocks, number, stale(BLOCKS));
            }
            prop_assert!(broken(&promises, &blocks));
        }
    }

    #[test]
    fn a_test_that_was_killed_is_judged_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert!(check(data, None).is_err(), "there was none");
        assert_eq!(
            check(data, Some(7)).unwrap().kept,
            Kept::Broken,
            "its file is gone"
        );
        let mut test = PlugTest::begin(data, 0, Measured::default()).unwrap();
        for number in 1..=100 {
            assert_eq!(test.step().unwrap().number, number);
        }
        assert!(check(data, None).is_err(), "it still runs");
        judge_at_start(data);
        drop(test);
        assert!(kept_verdict(data).is_none());
        judge_at_start(data);
        let verdict = kept_verdict(data).unwrap();
        assert_eq!(
            (verdict.kept, verdict.facts.promised),
            (Kept::NotShown, 100)
        );
        assert!(verdict.to_string().contains("no power cut"), "{verdict}");
        assert!(!plug::file_path(data).exists());
        assert_eq!(check(data, Some(101)).unwrap().kept, Kept::Broken);
        // A new one, which is given up.
        let test = PlugTest::begin(data, 0, Measured::default()).unwrap();
        test.give_up().unwrap();
        assert!(kept_verdict(data).is_none() && check(data, None).is_err());
    }

    #[test]
    fn a_torn_block_on_the_disk_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let mut test = PlugTest::begin(data, 0, Measured::default()).unwrap();
        for _ in 0..20 {
            test.step().unwrap();
        }
        drop(test);
        let file = File::options()
            .write(true)
            .open(plug::file_path(data))
            .unwrap();
        file.write_all_at(&[0; 512], offset(Kind::Block, 13) + 1_024)
            .unwrap();
        let verdict = check(data, None).unwrap();
        assert_eq!(
            (verdict.kept, verdict.facts.first_missing),
            (Kept::Broken, 13)
        );
    }
}
