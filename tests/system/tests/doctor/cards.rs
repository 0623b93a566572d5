//! `doctor disk` on cards that keep their word and on those that don't, with a real cut.

use tidegate_system_tests::card::{Card, Flush};
use tidegate_system_tests::node::Edge;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::skip;
use tidegate_system_tests::wait::SOON;

use super::doctor;

/// The plug is pulled from a machine with this card once it shows a text. Returns the last number that was shown, and the machine's folder.
fn pull_the_plug(card: &mut Card, scratch: &Scratch, at: &str) -> (Edge, u64) {
    let edge = Edge::alone(scratch.path(), &card.mount);
    edge.configure("journal: {free_disk_min: 0, bytes_max: 64MiB}\n");
    std::fs::create_dir_all(&edge.data).unwrap();
    let log = scratch.path().join("disk.log");
    let command = edge.command(&[
        "doctor",
        "disk",
        "--rated-writes",
        "30TB",
        "--load",
        "20KiB/s",
    ]);
    let mut test = Process::start("doctor disk", command, &log);
    test.wait_for_log(at, SOON * 4);
    card.cut_power(|| test.kill());
    let said = test.log();
    assert!(said.contains("commit    median"), "{said}");
    assert!(said.contains("the rated writes last 46 years"), "{said}");
    let shown = said
        .lines()
        .filter_map(|line| line.strip_prefix("block ")?.split(' ').next()?.parse().ok());
    (edge, shown.max().unwrap())
}

/// What `doctor disk --check` says, and its code.
fn checked(edge: &Edge, last: Option<u64>) -> (i32, String) {
    let mut command = edge.command(&["doctor", "disk", "--check"]);
    command.args(last.map(|last| format!("--last={last}")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text)
}

#[test]
fn an_honest_card_is_called_honest() {
    let scratch = Scratch::new("card-honest");
    let mut card = match Card::new(&scratch, Flush::Honest) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (mut edge, last) = pull_the_plug(&mut card, &scratch, ": pull the plug\n");
    // The node says so by itself.
    edge.start();
    edge.wait_ready();
    edge.process()
        .wait_for_log("the card kept its word over this power cut", SOON);
    let log = edge.process().log();
    assert!(log.contains("a commit took: median"), "{log}");
    assert!(
        log.contains("its rated writes last 46 years at 20.0 KiB/s"),
        "{log}"
    );
    edge.kill();
    let (code, text) = checked(&edge, Some(last));
    println!("{text}");
    assert_eq!(code, 0, "{text}");
    assert!(doctor(&edge).of("disk").contains("kept its word"));
    assert_eq!(
        checked(&edge, Some(last + 1_000)).0,
        1,
        "that was not shown"
    );
}

#[test]
fn a_card_that_reorders_over_a_flush_is_found_out() {
    let scratch = Scratch::new("card-reorders");
    let mut card = match Card::new(&scratch, Flush::Reorders) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (mut edge, _) = pull_the_plug(&mut card, &scratch, "block 1000 is");
    edge.start();
    edge.wait_ready();
    edge.process()
        .wait_for_log("the card did not keep its word", SOON);
    edge.kill();
    let (code, text) = checked(&edge, None);
    println!("{text}");
    assert_eq!(code, 1, "{text}");
    doctor(&edge).has_problem("disk", "did not keep its word");
}

/// All is consistent, only too old: nothing on the card shows that.
#[test]
fn a_card_that_delays_is_found_out_by_the_number_that_was_shown() {
    let scratch = Scratch::new("card-delays");
    let mut card = match Card::new(&scratch, Flush::Delays) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (edge, last) = pull_the_plug(&mut card, &scratch, "block 1000 is");
    let (code, text) = checked(&edge, None);
    assert_ne!(code, 1, "{text}");
    let (code, text) = checked(&edge, Some(last));
    println!("{text}");
    assert_eq!(code, 1, "{text}");
}

#[test]
fn a_test_that_is_stopped_leaves_nothing() {
    let scratch = Scratch::new("card-stopped");
    let edge = Edge::alone(scratch.path(), scratch.path());
    std::fs::create_dir_all(&edge.data).unwrap();
    let log = scratch.path().join("disk.log");
    let mut test = Process::start("doctor disk", edge.command(&["doctor", "disk"]), &log);
    test.wait_for_log("block 1 is on the disk", SOON);
    test.signal("INT");
    assert!(test.wait(SOON).success(), "{}", test.log());
    assert!(!edge.data.join("doctor/plug-test").exists());
    let output = edge
        .command(&["doctor", "disk", "--check"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no test to judge"), "{said}");
}
