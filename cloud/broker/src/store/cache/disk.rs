//! Blocks of objects in files. The folder may be deleted at any time, and its files may be damaged or another's:
//! what a file holds is believed only with its CRC, its name and its length. Nothing is synced.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::lru::Lru;
use super::{Block, BlockId, block_length};

const MAGIC: u64 = u64::from_le_bytes(*b"TGCACHE1");

/// Magic, and the CRC of all that follows.
const HEAD_BYTES: usize = 12;

/// Object's length, block's number, lengths of name and body; then come name and body.
const FIELDS_BYTES: usize = 24;

const EXTENSION: &str = "block";
const UNFINISHED: &str = "unfinished";

/// The files of blocks, at most so many bytes of them.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    bytes_max: u64,
    files: Mutex<Lru<BlockId, ()>>,
    unfinished: AtomicU64,
}

/// What a look into the folder came to.
#[derive(Debug)]
pub(super) enum Loaded {
    Block(Block),
    Missing,
    /// A file was there and is not what it should be; it is gone now.
    Damaged,
}

impl Disk {
    /// Takes over the blocks of an earlier run, the newest as the last to go. Does not fail: without the
    /// folder there is nothing in it.
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> Self {
        let mut found = Vec::new();
        for folder in entries(&folder).filter(|path| path.is_dir()) {
            for path in entries(&folder) {
                match (id_of(&path), fs::metadata(&path)) {
                    (Some(id), Ok(file)) => {
                        let modified = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                        found.push((modified, id, file.len()));
                    }
                    _ if path.extension().is_some_and(|found| found == UNFINISHED) => {
                        let _ = fs::remove_file(&path);
                    }
                    _ => {}
                }
            }
        }
        found.sort_by_key(|(modified, id, _)| (*modified, *id));
        let mut files = Lru::default();
        for (_, id, bytes) in found {
            files.insert(id, (), bytes);
        }
        let disk = Self {
            folder,
            bytes_max,
            files: Mutex::new(files),
            unfinished: AtomicU64::new(0),
        };
        disk.make_room(&mut disk.files());
        disk
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files().weight()
    }

    /// Reads a block of an object of that name.
    pub(super) fn load(&self, id: BlockId, name: &str) -> Loaded {
        if self.files().get(&id).is_none() {
            return Loaded::Missing;
        }
        let path = self.path(id);
        let loaded = match fs::read(&path) {
            Ok(bytes) => decode(bytes.into(), id, name).map_or(Loaded::Damaged, Loaded::Block),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Loaded::Missing,
            Err(_) => Loaded::Damaged,
        };
        if !matches!(loaded, Loaded::Block(_)) {
            self.files().remove(&id);
            let _ = fs::remove_file(&path);
        }
        loaded
    }

    /// Keeps a block; the oldest go where they are too many.
    pub(super) fn save(&self, id: BlockId, name: &str, block: &Block) -> io::Result<()> {
        let bytes = encode(id, name, block);
        if bytes.len() as u64 > self.bytes_max {
            return Ok(());
        }
        let path = self.path(id);
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{number}.{UNFINISHED}"));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let written = fs::File::create(&unfinished)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
            return written;
        }
        let mut files = self.files();
        files.insert(id, (), bytes.len() as u64);
        self.make_room(&mut files);
        Ok(())
    }

    fn make_room(&self, files: &mut Lru<BlockId, ()>) {
        while files.weight() > self.bytes_max {
            let Some((id, ())) = files.pop_oldest() else {
                return;
            };
            let _ = fs::remove_file(self.path(id));
        }
    }

    fn path(&self, id: BlockId) -> PathBuf {
        let object = format!("{:032x}", id.object);
        self.folder
            .join(&object[..2])
            .join(format!("{object}-{:08x}.{EXTENSION}", id.number))
    }

    fn files(&self) -> MutexGuard<'_, Lru<BlockId, ()>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// The block whose file has that name.
fn id_of(path: &Path) -> Option<BlockId> {
    let name = path.file_name()?.to_str()?;
    let (object, number) = name.strip_suffix(".block")?.split_once('-')?;
    if object.len() != 32 {
        return None;
    }
    Some(BlockId {
        object: u128::from_str_radix(object, 16).ok()?,
        number: u64::from_str_radix(number, 16).ok()?,
    })
}

fn encode(id: BlockId, name: &str, block: &Block) -> Bytes {
    let length = HEAD_BYTES + FIELDS_BYTES + name.len() + block.bytes.len();
    let mut bytes = BytesMut::with_capacity(length);
    bytes.put_u64_le(MAGIC);
    bytes.put_u32_le(0);
    bytes.put_u64_le(block.object_bytes);
    bytes.put_u64_le(id.number);
    bytes.put_u32_le(name.len() as u32);
    bytes.put_u32_le(block.bytes.len() as u32);
    bytes.put_slice(name.as_bytes());
    bytes.put_slice(&block.bytes);
    let crc = crc32c::crc32c(&bytes[HEAD_BYTES..]);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes.freeze()
}

/// `None` where the file is not whole, or not this block's.
fn decode(mut bytes: Bytes, id: BlockId, name: &str) -> Option<Block> {
    if bytes.len() < HEAD_BYTES + FIELDS_BYTES {
        return None;
    }
    let (magic, crc) = (bytes.get_u64_le(), bytes.get_u32_le());
    if magic != MAGIC || crc != crc32c::crc32c(&bytes) {
        return None;
    }
    let (object_bytes, number) = (bytes.get_u64_le(), bytes.get_u64_le());
    let (name_bytes, body_bytes) = (bytes.get_u32_le() as usize, bytes.get_u32_le() as usize);
    if bytes.len() != name_bytes.checked_add(body_bytes)? {
        return None;
    }
    let body = bytes.split_off(name_bytes);
    let right = number == id.number
        && bytes == name.as_bytes()
        && body.len() as u64 == block_length(number, object_bytes);
    right.then_some(Block {
        bytes: body,
        object_bytes,
    })
}
