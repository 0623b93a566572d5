//! What is peculiar to Hadoop's file system: which of its errors may pass (its client tells them by kind, and a name
//! node's by the name of a Java exception), and which files are no objects.

use std::error::Error;

use hdfs_native::HdfsError;
use object_store::path::Path as ObjectPath;

/// Exceptions of a name node that is starting, is another's deputy or has too much to do, or that misses data
/// nodes (a plain `IOException`).
const PASSING: [&str; 7] = [
    "IOException",
    "LeaseExpiredException",
    "NotReplicatedYetException",
    "RecoveryInProgressException",
    "RetriableException",
    "SafeModeException",
    "StandbyException",
];

/// Whether it is one of these errors, and the same may succeed at another time.
pub(super) fn may_pass(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<HdfsError>() {
        Some(HdfsError::RPCError(exception, _)) => {
            let name = exception.rsplit(['.', '$']).next().unwrap_or_default();
            PASSING.contains(&name)
        }
        Some(
            HdfsError::IOError(_)
            | HdfsError::DataTransferError(_)
            | HdfsError::ChecksumError
            | HdfsError::BlocksNotFound(_)
            | HdfsError::InvalidRPCResponse(_),
        ) => true,
        _ => false,
    }
}

/// An object is written as the file `.NAME.tmp.N` and then renamed; where a write fails or another creates the
/// object first, that file is left.
pub(super) fn is_object(path: &ObjectPath) -> bool {
    let name = path.filename().unwrap_or_default();
    let unfinished = name
        .strip_prefix('.')
        .and_then(|name| name.rsplit_once(".tmp."));
    unfinished.is_none_or(|(_, number)| number.parse::<u64>().is_err())
}
