//! One file of many: a gzipped tar that only its owner can read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// All lies below it.
const FOLDER: &str = "tidegate-edge-support";

#[derive(Debug, Default)]
pub(super) struct Archive {
    entries: Vec<(&'static str, String)>,
}

impl Archive {
    pub(super) fn add(&mut self, name: &'static str, text: String) {
        self.entries.push((name, text));
    }

    /// Writes the file, and returns what is in it, with sizes.
    ///
    /// # Errors
    /// It cannot be written; an older one stays then.
    pub(super) fn write(self, path: &Path) -> io::Result<Vec<(&'static str, usize)>> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = Path::new(&beside);
        let _ = fs::remove_file(beside);
        let mut options = File::options();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(beside)?;
        let written = self.pack(file).and_then(|sizes| {
            fs::rename(beside, path)?;
            Ok(sizes)
        });
        if written.is_err() {
            let _ = fs::remove_file(beside);
        }
        written
    }

    fn pack(self, file: File) -> io::Result<Vec<(&'static str, usize)>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut builder = Builder::new(GzEncoder::new(file, Compression::default()));
        let mut sizes = Vec::new();
        for (name, text) in self.entries {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now.as_secs());
            builder.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
            sizes.push((name, text.len()));
        }
        let mut file = builder.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_packed_can_be_read_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        let mut archive = Archive::default();
        archive.add("a.txt", "first".to_owned());
        archive.add("b.txt", "x".repeat(100_000));
        let sizes = archive.write(&path).unwrap();
        assert_eq!(sizes, [("a.txt", 5), ("b.txt", 100_000)]);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut unpacked = tar::Archive::new(GzDecoder::new(File::open(&path).unwrap()));
        let mut entries = unpacked.entries().unwrap();
        let mut first = entries.next().unwrap().unwrap();
        assert_eq!(
            first.path().unwrap().to_str(),
            Some("tidegate-edge-support/a.txt")
        );
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
    }
}
