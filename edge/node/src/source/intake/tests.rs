use proptest::prelude::*;

use super::*;

const RETRY: Duration = Duration::from_millis(250);

fn receipt(packet: u16) -> Receipt {
    Receipt {
        packet,
        qos: Qos::AtLeastOnce,
    }
}

fn connected() -> Intake<u32> {
    let mut intake = Intake::new(RETRY);
    intake.handle_connected();
    intake
}

fn acknowledged(intake: &mut Intake<u32>) -> Vec<u16> {
    std::iter::from_fn(|| intake.poll_acknowledged())
        .map(|receipt| receipt.packet)
        .collect()
}

#[test]
fn nothing_is_acknowledged_before_the_journal_has_it_nor_out_of_order() {
    let now = Instant::now();
    let mut intake = connected();
    for packet in 1..=3 {
        let action = intake.handle_message(receipt(packet), u32::from(packet), 10);
        let number = u64::from(packet) - 1;
        let (message, again) = (u32::from(packet), false);
        assert_eq!(
            action,
            Some(Action::Submit {
                number,
                message,
                again
            })
        );
    }
    assert_eq!(acknowledged(&mut intake), [0; 0]);
    intake.handle_answer(now, 1, Verdict::Settled);
    assert_eq!(acknowledged(&mut intake), [0; 0]);
    intake.handle_answer(now, 0, Verdict::Settled);
    assert_eq!(acknowledged(&mut intake), [1, 2]);
    assert_eq!(intake.bytes(), 10);
}

#[test]
fn what_has_no_space_is_tried_again_alone_and_then_all_in_order() {
    let now = Instant::now();
    let mut intake = connected();
    intake.handle_message(receipt(1), 1, 1);
    intake.handle_message(receipt(2), 2, 1);
    assert_eq!(intake.handle_answer(now, 0, Verdict::NoSpace), []);
    assert_eq!(intake.deadline(), None, "the second is under way");
    // What comes now is behind them.
    assert_eq!(intake.handle_message(receipt(3), 3, 1), None);
    assert_eq!(intake.handle_answer(now, 1, Verdict::NoSpace), []);
    assert_eq!(intake.handle_timeout(now), None);
    let later = now + RETRY;
    let probe = Action::Probe {
        number: 0,
        message: 1,
    };
    assert_eq!(intake.handle_timeout(later), Some(probe.clone()));
    assert_eq!(intake.handle_answer(later, 0, Verdict::NoSpace), []);
    assert_eq!(intake.handle_timeout(later + RETRY), Some(probe));
    assert!(intake.waits_for_space());
    let all = intake.handle_answer(later, 0, Verdict::Settled);
    let submit = |number, message, again| Action::Submit {
        number,
        message,
        again,
    };
    assert_eq!(all, [submit(1, 2, true), submit(2, 3, false)]);
    assert!(!intake.waits_for_space());
    assert_eq!(acknowledged(&mut intake), [1]);
}

/// The broker gives its packet ids away again: an answer of before must not acknowledge another message.
#[test]
fn an_answer_for_an_earlier_connection_acknowledges_nothing() {
    let now = Instant::now();
    let mut intake = connected();
    intake.handle_message(receipt(1), 1, 1);
    intake.handle_disconnected();
    assert_eq!(
        intake.handle_message(receipt(2), 2, 1),
        None,
        "it was read before the end"
    );
    intake.handle_connected();
    let number = match intake.handle_message(receipt(1), 7, 1) {
        Some(Action::Submit { number, .. }) => number,
        action => panic!("{action:?}"),
    };
    intake.handle_answer(now, 0, Verdict::Settled);
    assert_eq!(acknowledged(&mut intake), [0; 0]);
    intake.handle_answer(now, number, Verdict::Settled);
    assert_eq!(acknowledged(&mut intake), [1]);
}

#[test]
fn a_node_that_stops_takes_no_more_and_acknowledges_what_is_safe() {
    let now = Instant::now();
    let mut intake = connected();
    intake.handle_message(receipt(1), 1, 1);
    intake.handle_stopping();
    assert_eq!(intake.handle_message(receipt(2), 2, 1), None);
    assert!(!intake.is_settled());
    intake.handle_answer(now, 0, Verdict::Settled);
    assert!(intake.is_settled());
    assert_eq!(acknowledged(&mut intake), [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive,
    /// The journal answers for the oldest that it has.
    Answer {
        space: bool,
    },
    Wait,
    Cut,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Arrive),
        4 => any::<bool>().prop_map(|space| Step::Answer { space }),
        2 => Just(Step::Wait),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    /// Against a broker that sends again, in order, what it has no acknowledgement for, and a journal whose gate closes
    /// with a refusal: each message is journalled before it is acknowledged, acknowledgements come in order, and the
    /// first time that each is journalled is in the order in which it was published.
    #[test]
    fn nothing_is_lost_and_order_holds(steps in proptest::collection::vec(any_step(), 1..200)) {
        let mut now = Instant::now();
        let mut intake = connected();
        let (mut published, mut acked) = (0_u32, 0_u32);
        let mut journal: VecDeque<(u64, u32)> = VecDeque::new();
        let (mut stored, mut gate_is_closed) = (Vec::new(), false);
        for step in steps {
            let mut actions = Vec::new();
            match step {
                Step::Arrive => {
                    published += 1;
                    let packet = (published % 1000) as u16 + 1;
                    actions.extend(intake.handle_message(receipt(packet), published, 1));
                }
                Step::Answer { space } => if let Some((number, message)) = journal.pop_front() {
                    let taken = space && !gate_is_closed;
                    gate_is_closed |= !taken;
                    if taken {
                        stored.push(message);
                    }
                    let verdict = if taken { Verdict::Settled } else { Verdict::NoSpace };
                    actions.extend(intake.handle_answer(now, number, verdict));
                },
                Step::Wait => {
                    now += RETRY;
                    actions.extend(intake.handle_timeout(now));
                }
                Step::Cut => {
                    intake.handle_disconnected();
                    intake.handle_connected();
                    for message in acked + 1..=published {
                        let packet = (message % 1000) as u16 + 1;
                        actions.extend(intake.handle_message(receipt(packet), message, 1));
                    }
                }
            }
            for action in actions {
                match action {
                    Action::Submit { number, message, .. } => journal.push_back((number, message)),
                    Action::Probe { number, message } => {
                        gate_is_closed = false;
                        journal.push_back((number, message));
                    }
                }
            }
            while let Some(receipt) = intake.poll_acknowledged() {
                acked += 1;
                prop_assert_eq!(receipt.packet, (acked % 1000) as u16 + 1);
                prop_assert!(stored.contains(&acked), "{} is acknowledged and not stored", acked);
            }
        }
        let mut seen = Vec::new();
        for message in stored {
            if !seen.contains(&message) {
                seen.push(message);
            }
        }
        prop_assert!(seen.is_sorted(), "{:?}", seen);
    }
}
