//! Reading what a backup holds, and holding it against what its manifest tells.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::errors::RestoreError;
use super::manifest::{FileEntry, Manifest, ObjectEntry};
use super::names::{BackupName, Crc};
use super::place::{Place, copy_key, file_key};
use super::{Progress, Report};
use crate::store::StoreError;

/// Reads all of a backup and changes nothing: its files, and the copies of segments that are not in `checked` yet,
/// which takes them up. Segments that were not copied are not looked for.
///
/// # Errors
/// [`RestoreError::Damaged`] names the first file that is not as it was written.
pub async fn verify(
    place: &Place,
    manifest: &Manifest,
    checked: &mut BTreeSet<String>,
    report: Report<'_>,
) -> Result<(), RestoreError> {
    let copies = manifest.objects.iter();
    let copies = copies.filter_map(|object| Some((object, object.crc32c?)));
    let copies: Vec<_> = copies
        .filter(|(object, crc)| !checked.contains(&copy_key(&object.key, *crc)))
        .collect();
    let mut progress = Progress {
        total: (manifest.files.len() + copies.len()) as u64,
        ..Progress::default()
    };
    for file in &manifest.files {
        read_file(place, &manifest.name, file).await?;
        report(progress.add(file.bytes));
    }
    for (object, crc) in copies {
        read_copy(place, object, crc).await?;
        checked.insert(copy_key(&object.key, crc));
        report(progress.add(object.bytes));
    }
    Ok(())
}

pub(super) async fn read_file(
    place: &Place,
    name: &BackupName,
    file: &FileEntry,
) -> Result<Bytes, RestoreError> {
    let read = place.read_file(name, &file.path).await;
    let key = file_key(name, &file.path);
    as_told(place, key, read, (file.bytes, file.crc32c))
}

pub(super) async fn read_copy(
    place: &Place,
    object: &ObjectEntry,
    crc: Crc,
) -> Result<Bytes, RestoreError> {
    let read = place.read_copy(&object.key, crc).await;
    as_told(place, copy_key(&object.key, crc), read, (object.bytes, crc))
}

/// What was read, if it is what the manifest tells.
fn as_told(
    place: &Place,
    key: String,
    read: Result<Bytes, StoreError>,
    (bytes, crc): (u64, Crc),
) -> Result<Bytes, RestoreError> {
    let what = match read {
        Ok(read) if read.len() as u64 != bytes => {
            format!("it has {} bytes and should have {bytes}", read.len())
        }
        Ok(read) if Crc::of(&read) != crc => "its CRC is another one".to_owned(),
        Ok(read) => return Ok(read),
        Err(error) if error.is_not_found() => "it is missing".to_owned(),
        Err(error) => return Err(error.into()),
    };
    Err(RestoreError::Damaged {
        place: place.url().to_owned(),
        key,
        what,
    })
}
