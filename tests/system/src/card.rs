//! A memory card of its own, honest or not: an ext4 on a loop device over `clients/card.py`, whose cache goes with the power.
//! Needs root, and FUSE.

use std::path::{Path, PathBuf};

use crate::image::{make, may_mount, run};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::{wait, workspace};

/// What a card does when it is told to store all that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It does.
    Honest,
    /// It stores half of it, and the rest later.
    Reorders,
    /// It says that it has, and does so later, in the right order.
    Delays,
}

/// The card, with its file system mounted while this lives.
#[derive(Debug)]
pub struct Card {
    image: PathBuf,
    /// Where the device is, a file.
    slot: PathBuf,
    pub mount: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Card {
    /// The reason where there can't be one here.
    pub fn new(scratch: &Scratch, flush: Flush) -> Result<Self, String> {
        may_mount()?;
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse (modprobe fuse)".to_owned());
        }
        let mut card = Self {
            image: scratch.path().join("card.image"),
            slot: scratch.folder("slot"),
            mount: scratch.folder("mount"),
            log: scratch.path().join("card.log"),
            process: None,
        };
        make(&card.image, "64M")?;
        card.put_in(flush)?;
        Ok(card)
    }

    fn device(&self) -> PathBuf {
        self.slot.join("card")
    }

    fn put_in(&mut self, flush: Flush) -> Result<(), String> {
        let mut command = workspace::python("card.py");
        command.arg(&self.image).arg(&self.slot);
        command.arg(match flush {
            Flush::Honest => "honest",
            Flush::Reorders => "reorders",
            Flush::Delays => "delays",
        });
        let mut process = Process::start("the card", command, &self.log);
        let device = self.device();
        let is_there = wait::until("the card is there, or says why not", wait::SOON, || {
            let ended = process.exited().map(|_| Err(process.log()));
            ended.or_else(|| device.exists().then_some(Ok(())))
        });
        self.process = Some(process);
        is_there?;
        run("mount", &["-o", "loop"], &[&self.device(), &self.mount])
            .map_err(|error| format!("no loop-mounted ext4 here: {error}"))
    }

    /// Cuts the power while `stop` ends the processes that use it, and puts the card into another machine, which is honest
    /// about what is on it.
    pub fn cut_power(&mut self, stop: impl FnOnce()) {
        self.process = None;
        stop();
        self.take_out();
        // What a lying card has lost may be the file system's own.
        let _ = run("e2fsck", &["-f", "-y"], &[&self.image]);
        let again = self.put_in(Flush::Honest);
        again.expect("what was mounted can be mounted again");
    }

    fn take_out(&self) {
        for mounted in [&self.mount, &self.slot] {
            if let Err(error) = run("umount", &["--lazy"], &[mounted]) {
                println!("{error}");
            }
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.take_out();
    }
}
