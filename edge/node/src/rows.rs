//! Many rows at once, in pieces: the committer takes an operation as a whole, and a commit must not grow
//! beyond what a frame holds.

use tidegate_edge_journal::{RowEntry, RowOperation};

use crate::limits::ROWS_AT_ONCE_BYTES_MAX;

/// What a row takes beside its key and value, roughly.
const ROW_OVERHEAD_BYTES: usize = 32;

/// The rows in their order, at most `ROWS_AT_ONCE_BYTES_MAX` together, but for one that is larger by
/// itself.
pub(crate) fn in_pieces(rows: Vec<RowEntry>) -> impl Iterator<Item = Vec<RowEntry>> {
    let mut rows = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = rows.next()?;
        let mut room = ROWS_AT_ONCE_BYTES_MAX.saturating_sub(bytes(&first));
        let mut piece = vec![first];
        while let Some(row) = rows.next_if(|row| bytes(row) <= room) {
            room -= bytes(&row);
            piece.push(row);
        }
        Some(piece)
    })
}

fn bytes(row: &RowEntry) -> usize {
    let operation = match &row.operation {
        RowOperation::Put(bytes) | RowOperation::Change(bytes) => bytes.len(),
        RowOperation::Delete => 0,
    };
    row.key.len() + operation + ROW_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_edge_journal::RowTable;

    use super::*;

    #[test]
    fn rows_stay_in_order_and_pieces_small() {
        let row = |bytes: usize| RowEntry {
            table: RowTable::ClientSessions,
            key: Bytes::from(bytes.to_string()),
            operation: RowOperation::Put(Bytes::from(vec![0; bytes])),
        };
        let sizes = (0..2_000).chain([2 * ROWS_AT_ONCE_BYTES_MAX, 1]);
        let rows: Vec<_> = sizes.map(row).collect();
        let pieces: Vec<_> = in_pieces(rows.clone()).collect();
        let small = |piece: &Vec<RowEntry>| {
            piece.len() == 1 || piece.iter().map(bytes).sum::<usize>() <= ROWS_AT_ONCE_BYTES_MAX
        };
        assert!(pieces.iter().all(small));
        assert!(pieces.len() < 20, "no more of them than needed");
        assert_eq!(pieces.concat(), rows);
    }
}
