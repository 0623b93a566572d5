//! The list of mutations fits the code: `tests/mutations` makes each of them, which takes too long for every
//! run of the tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

/// So many there must be.
const MUTATIONS_MIN: usize = 20;

#[test]
fn every_mutation_has_its_place_in_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(folder.join("mutations.txt")).unwrap();
    let mut count = 0;
    for entry in list.split("\n\n") {
        let lines = entry.lines().filter(|line| !line.starts_with('#'));
        let fields: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(": ")).collect();
        if fields.is_empty() {
            continue;
        }
        let path = folder.join("src/mqtt").join(fields["in"]);
        let text = std::fs::read_to_string(&path).unwrap();
        let found = text.matches(fields["from"]).count();
        let (what, from) = (fields["breaks"], fields["from"]);
        assert_eq!(found, 1, "{what}: {from:?} in {}", path.display());
        assert_ne!(from, fields["to"], "{what}");
        count += 1;
    }
    assert!(count >= MUTATIONS_MIN, "only {count}");
}
