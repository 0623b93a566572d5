//! Opening the index, and what becomes of a store whose index is lost: it is set aside whole, since
//! nothing else says what its log files hold.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, DatabaseError, StorageError};

use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES};
use crate::log_file::OpenLogFile;
use crate::media::{Aside, Medium};
use crate::open::{OpenError, OpenReport, read_header};
use crate::state::State;
use crate::tables::{self, TableError};

/// Opens and loads the index. One that is damaged is set aside, and a new one is made.
pub(crate) fn open_index(
    medium: &Arc<dyn Medium>,
    report: &mut OpenReport,
) -> Result<(Database, Option<State>), OpenError> {
    // redb may panic on pages that are damaged.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = medium.open_database()?;
        let loaded = tables::load(&database)?;
        Ok::<_, OpenError>((database, loaded))
    }));
    let why = match opened {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(error)) if !is_damage(&error) => return Err(error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it cannot be read".to_owned(),
    };
    report.damage.push(format!("the index is lost: {why}"));
    report.set_aside.push(medium.set_aside(Aside::Database)?);
    report.index_lost = true;
    Ok((medium.open_database()?, None))
}

fn is_damage(error: &OpenError) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    let is_bad = |error: &io::Error| matches!(error.kind(), InvalidData | UnexpectedEof);
    match error {
        OpenError::Database(DatabaseError::Storage(StorageError::Io(error))) => is_bad(error),
        OpenError::Database(DatabaseError::Storage(StorageError::Corrupted(_))) => true,
        OpenError::Database(DatabaseError::RepairAborted) => true,
        OpenError::Table(TableError::Row(_) | TableError::Name(_)) => true,
        OpenError::Table(TableError::Redb(error)) => match &**error {
            redb::Error::Io(error) => is_bad(error),
            redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

/// Log files with frames in them, and no index that knows them: those of a store whose index is
/// lost. Nobody can tell what streams they hold, but they are not written over either.
pub(crate) fn set_old_store_aside(
    medium: &Arc<dyn Medium>,
    report: &mut OpenReport,
) -> io::Result<()> {
    for slot in medium.slots()? {
        let file = medium.open(slot)?;
        let Some(header) = read_header(&*file) else {
            continue;
        };
        let bytes = LOG_FILE_HEADER_BYTES + FRAME_ALIGN_BYTES;
        let open = OpenLogFile {
            slot,
            header,
            file,
            bytes,
        };
        // A file without a frame was made by an opening that was cut short.
        if open.has_frame_header(LOG_FILE_HEADER_BYTES)? {
            if !report.index_lost {
                let why = "the index is lost: it is missing";
                report.damage.push(why.to_owned());
                report.index_lost = true;
            }
            report.set_aside.push(medium.set_aside(Aside::Log(slot))?);
        }
    }
    Ok(())
}
