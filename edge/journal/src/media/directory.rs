//! The ordinary medium: a folder of a file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Aside, LogFile, Medium, Slot};

const DATABASE_FILE: &str = "index.redb";
const LOG_FOLDER: &str = "log";
/// Space held for a checkpoint on a full disk.
const RESERVE_FILE: &str = "reserve";
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A folder with `index.redb` and `log/00000.log …`.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Makes the folder where it does not exist yet.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(root.join(LOG_FOLDER))?;
        sync_folder(&root)?;
        if let Some(parent) = root
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            sync_folder(parent)?;
        }
        Ok(Self { root })
    }

    /// Whether a journal was ever made there.
    pub fn holds_journal(root: &Path) -> bool {
        let has_logs =
            || fs::read_dir(root.join(LOG_FOLDER)).is_ok_and(|mut log| log.next().is_some());
        root.join(DATABASE_FILE).exists() || has_logs()
    }

    fn log_path(&self, slot: Slot) -> PathBuf {
        self.root.join(LOG_FOLDER).join(format!("{slot:05}.log"))
    }
}

impl Medium for Directory {
    fn slots(&self) -> io::Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for entry in fs::read_dir(self.root.join(LOG_FOLDER))? {
            let name = entry?.file_name();
            let slot = name.to_str().and_then(|name| name.strip_suffix(".log"));
            slots.extend(slot.and_then(|slot| slot.parse::<Slot>().ok()));
        }
        Ok(slots)
    }

    fn open(&self, slot: Slot) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.log_path(slot))?;
        Ok(Arc::new(DirectoryFile { file }))
    }

    fn create(&self, slot: Slot, bytes: usize) -> io::Result<Arc<dyn LogFile>> {
        let path = self.log_path(slot);
        let made = create_zeroed(&path, bytes);
        if made.is_err() {
            // What was half made would hold the space that the next attempt needs.
            let _ = fs::remove_file(&path);
        }
        let file = made?;
        sync_folder(&self.root.join(LOG_FOLDER))?;
        Ok(Arc::new(DirectoryFile { file }))
    }

    fn remove(&self, slot: Slot) -> io::Result<()> {
        fs::remove_file(self.log_path(slot))?;
        sync_folder(&self.root.join(LOG_FOLDER))
    }

    fn open_database(&self) -> Result<redb::Database, redb::DatabaseError> {
        let database = redb::Builder::new()
            .set_cache_size(1 << 20)
            .create(self.root.join(DATABASE_FILE))?;
        sync_folder(&self.root).map_err(redb::StorageError::Io)?;
        Ok(database)
    }

    fn set_aside(&self, what: Aside) -> io::Result<String> {
        let path = match what {
            Aside::Database => self.root.join(DATABASE_FILE),
            Aside::Log(slot) => self.log_path(slot),
        };
        let named = |number: u32| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".damaged-{number}"));
            PathBuf::from(name)
        };
        let free = (1..).map(named).find(|path| !path.exists());
        let to = free.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&path, &to)?;
        sync_folder(path.parent().unwrap_or(&self.root))?;
        Ok(to
            .strip_prefix(&self.root)
            .unwrap_or(&to)
            .display()
            .to_string())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn hold_reserve(&self, bytes: u64) -> io::Result<()> {
        let path = self.root.join(RESERVE_FILE);
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        let made = create_zeroed(&path, bytes as usize);
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        made.map(drop)
    }

    fn release_reserve(&self) -> io::Result<()> {
        match fs::remove_file(self.root.join(RESERVE_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.root),
        }
    }
}

fn create_zeroed(path: &Path, bytes: usize) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    for offset in (0..bytes).step_by(ZEROS.len()) {
        let length = ZEROS.len().min(bytes - offset);
        file.write_all_at(&ZEROS[..length], offset as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[derive(Debug)]
struct DirectoryFile {
    file: File,
}

impl LogFile for DirectoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
