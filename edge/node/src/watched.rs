//! A file that is read again when it changes: what is in it counts at once, and where it cannot be used, what was there
//! before goes on counting.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tidegate_bridge::{FileState, Reloaded};

/// A file that has changed is read once it stays the same for so long: who writes it may not have come to its end.
const SETTLES: Duration = Duration::from_millis(500);

/// Makes a value of a file's text.
type Parse<T> = Box<dyn Fn(&str) -> anyhow::Result<T> + Send + Sync>;

pub(crate) struct Watched<T> {
    /// The key of the configuration that names it.
    key: &'static str,
    path: PathBuf,
    bytes_max: u64,
    parse: Parse<T>,
    now: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

struct Seen {
    read: Option<FileState>,
    /// As it was told to be of no use.
    refused: Option<Option<FileState>>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Watched({} {})", self.key, self.path.display())
    }
}

impl<T> Watched<T> {
    /// # Errors
    /// With the file, and what is wrong in it.
    pub(crate) fn load(
        key: &'static str,
        path: &Path,
        bytes_max: u64,
        parse: impl Fn(&str) -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let read = FileState::of(path);
        let parse: Parse<T> = Box::new(parse);
        let value = read_file(key, path, bytes_max, &parse)?;
        Ok(Self {
            key,
            path: path.to_owned(),
            bytes_max,
            parse,
            now: RwLock::new(Arc::new(value)),
            seen: Mutex::new(Seen {
                read,
                refused: None,
            }),
        })
    }

    pub(crate) fn now(&self) -> Arc<T> {
        Arc::clone(&self.now.read().expect("nobody panics with it"))
    }

    /// Reads the file again, if it changed or `anyway`. Blocks; one that still changes waits for the next time.
    pub(crate) fn reload(&self, anyway: bool) -> Reloaded {
        // One after the other: who read an older file does not install it over a newer one.
        let mut seen = self.seen.lock().expect("nobody panics with it");
        let found = FileState::of(&self.path);
        if seen.read == found && !anyway {
            return Reloaded::Unchanged;
        }
        if !anyway && seen.refused != Some(found) {
            thread::sleep(SETTLES);
        }
        let key = self.key;
        let value = read_file(key, &self.path, self.bytes_max, &self.parse);
        if !anyway && FileState::of(&self.path) != found {
            return Reloaded::Unchanged;
        }
        match value {
            Ok(value) => {
                *self.now.write().expect("nobody panics with it") = Arc::new(value);
                *seen = Seen {
                    read: found,
                    refused: None,
                };
                tracing::info!(file = %self.path.display(), "{key}: the file was read anew");
                Reloaded::Renewed
            }
            // Tried again the next time: its rights may change, and its time not.
            Err(_) if seen.refused == Some(found) && !anyway => Reloaded::Refused,
            Err(error) => {
                seen.refused = Some(found);
                let why = format!("{error:#}");
                tracing::warn!(why, "{key}: what was read before goes on counting");
                Reloaded::Refused
            }
        }
    }
}

fn read_file<T>(key: &str, path: &Path, bytes_max: u64, parse: &Parse<T>) -> anyhow::Result<T> {
    let shown = path.display();
    let unread = || format!("cannot read {key} {shown}");
    let bytes = fs::metadata(path).with_context(unread)?.len();
    ensure!(
        bytes <= bytes_max,
        "{key} {shown} has {bytes} bytes, more than {bytes_max}"
    );
    let text = fs::read_to_string(path).with_context(unread)?;
    parse(&text).with_context(|| format!("{key} {shown}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_cannot_be_used_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let load = || Watched::load("the.key", &path, 8, |text| Ok(text.trim().parse::<u8>()?));
        let missing = format!("{:#}", load().unwrap_err());
        assert!(missing.contains("the.key"), "{missing}");
        fs::write(&path, "1").unwrap();
        let watched = load().unwrap();
        assert_eq!(
            (*watched.now(), watched.reload(false)),
            (1, Reloaded::Unchanged)
        );
        for (text, reloaded, now) in [
            ("22", Reloaded::Renewed, 22),
            ("none", Reloaded::Refused, 22),
            ("123456789", Reloaded::Refused, 22),
            ("333", Reloaded::Refused, 22),
            ("4", Reloaded::Renewed, 4),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(watched.reload(false), reloaded, "{text}");
            assert_eq!(*watched.now(), now, "{text}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(
            (watched.reload(false), *watched.now()),
            (Reloaded::Refused, 4)
        );
        assert_eq!(watched.reload(true), Reloaded::Refused);
    }
}
