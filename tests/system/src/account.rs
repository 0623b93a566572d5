//! The bookkeeping of a run: what clients sent and saw acknowledged, against what Kafka has.
//! Pure, so that its own tests can show that it notices a loss, a duplicate and a wrong order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// One message: a device, and its number there, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    pub device: String,
    pub number: u64,
}

/// What the clients know.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    times: BTreeMap<Message, u64>,
    acknowledged: HashSet<Message>,
    devices: HashMap<String, Device>,
    /// What a client sent behind this number itself.
    overtaken: HashMap<Message, u64>,
}

/// How far a device's client has come. One that connects anew may send what has come to it meanwhile before what it
/// has begun (libmosquitto does, now and then): then it passes over some, which it sends later.
#[derive(Clone, Debug, Default)]
struct Device {
    next: u64,
    passed_over: BTreeSet<u64>,
    highest: u64,
}

/// A record as a consumer saw it.
#[derive(Clone, Debug)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub message: Message,
}

impl Sent {
    pub fn sent(&mut self, message: Message) {
        let device = self.devices.entry(message.device.clone()).or_default();
        let number = message.number;
        if number >= device.next {
            device.passed_over.extend(device.next..number);
            device.next = number + 1;
            device.highest = number;
        } else if !device.passed_over.is_empty() {
            device.passed_over.remove(&number);
            self.overtaken.insert(message.clone(), device.highest);
        }
        *self.times.entry(message).or_default() += 1;
    }

    pub fn acknowledged(&mut self, message: Message) {
        self.acknowledged.insert(message);
    }

    pub fn messages(&self) -> usize {
        self.times.len()
    }

    pub fn acknowledgements(&self) -> usize {
        self.acknowledged.len()
    }

    /// How often anything was sent, repetitions included.
    pub fn transmissions(&self) -> u64 {
        self.times.values().sum()
    }

    pub fn add(&mut self, other: Self) {
        for (message, times) in other.times {
            *self.times.entry(message).or_default() += times;
        }
        self.acknowledged.extend(other.acknowledged);
        self.devices.extend(other.devices);
        self.overtaken.extend(other.overtaken);
    }

    /// Reads a client's log: lines of `S` (sent) or `A` (acknowledged), device, number.
    pub fn read_log(text: &str) -> Self {
        let mut sent = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (kind, device, number) = (words.next(), words.next(), words.next());
            let number = number.and_then(|number| number.parse().ok());
            let (Some(kind), Some(device), Some(number)) = (kind, device, number) else {
                panic!("a client's log has the line {line:?}");
            };
            let message = Message {
                device: device.to_owned(),
                number,
            };
            match kind {
                "S" => sent.sent(message),
                _ => sent.acknowledged(message),
            }
        }
        sent
    }
}

/// What is wrong, in words; empty where all promises were kept. `landed` is how many entries the
/// edge's journal has landed.
pub fn faults(sent: &Sent, read: &[Read], landed: u64) -> Vec<String> {
    let mut faults = Vec::new();
    offsets(read, landed, &mut faults);
    counts(sent, read, &mut faults);
    order(sent, read, &mut faults);
    faults
}

/// Each (partition, offset) once, without holes, all in one partition, and as many as landed.
fn offsets(read: &[Read], landed: u64, faults: &mut Vec<String>) {
    let mut partitions: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in read {
        partitions
            .entry(record.partition)
            .or_default()
            .push(record.offset);
    }
    if partitions.len() > 1 {
        let used: Vec<_> = partitions.keys().collect();
        faults.push(format!(
            "one edge's messages are in several partitions: {used:?}"
        ));
    }
    for (partition, offsets) in &mut partitions {
        offsets.sort_unstable();
        let dense = offsets
            .iter()
            .enumerate()
            .all(|(at, offset)| at as i64 == *offset);
        if !dense {
            faults.push(format!(
                "the offsets of partition {partition} are not dense from 0"
            ));
        }
    }
    if read.len() as u64 != landed {
        let records = read.len();
        faults.push(format!(
            "{landed} journal entries have landed, and Kafka has {records} records"
        ));
    }
}

/// Acknowledged: at least once. Any: at most as often as its client sent it.
fn counts(sent: &Sent, read: &[Read], faults: &mut Vec<String>) {
    let mut seen: HashMap<&Message, u64> = HashMap::new();
    for record in read {
        *seen.entry(&record.message).or_default() += 1;
    }
    let lost: Vec<_> = sent
        .acknowledged
        .iter()
        .filter(|&message| !seen.contains_key(message))
        .collect();
    if let Some(first) = lost.iter().min() {
        faults.push(format!(
            "{} acknowledged messages are lost, such as {first:?}",
            lost.len()
        ));
    }
    let sent_times = |message| sent.times.get(message).copied().unwrap_or_default();
    let excess: Vec<_> = seen
        .iter()
        .filter(|&(message, times)| *times > sent_times(message))
        .collect();
    if let Some((message, times)) = excess.iter().min() {
        let (count, sent) = (excess.len(), sent_times(message));
        faults.push(format!(
            "{count} messages are there more often than they were sent, such as {message:?}: \
             {times} times, sent {sent} times"
        ));
    }
}

/// Per device, in the order of offsets, numbers appear for the first time in their order, or in the one in which its
/// client sent them.
fn order(sent: &Sent, read: &[Read], faults: &mut Vec<String>) {
    let mut records: Vec<_> = read.iter().collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    let mut first_seen = HashSet::new();
    let mut newest: HashMap<&str, u64> = HashMap::new();
    // The last that was overtaken, since the newest came.
    let mut late: HashMap<&str, u64> = HashMap::new();
    for record in records {
        let message = &record.message;
        if !first_seen.insert(message) {
            continue;
        }
        let newest = newest.entry(&message.device).or_default();
        if message.number < *newest {
            let late = late.entry(&message.device).or_default();
            if sent.overtaken.get(message) >= Some(newest) && message.number >= *late {
                *late = message.number;
                continue;
            }
            let offset = record.offset;
            faults.push(format!(
                "{message:?} first appears at {offset}, after number {newest}"
            ));
            return;
        }
        *newest = message.number;
        late.remove(message.device.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u64) -> Message {
        Message {
            device: "d".to_owned(),
            number,
        }
    }

    fn sent(count: u64) -> Sent {
        let mut sent = Sent::default();
        for number in 0..count {
            sent.sent(message(number));
            sent.acknowledged(message(number));
        }
        sent
    }

    fn read(numbers: &[u64]) -> Vec<Read> {
        let records = numbers.iter().enumerate();
        let record = |(at, &number)| Read {
            partition: 3,
            offset: at as i64,
            message: message(number),
        };
        records.map(record).collect()
    }

    fn only_fault(sent: &Sent, read: &[Read], landed: u64) -> String {
        let faults = faults(sent, read, landed);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.into_iter().next().expect("there is one")
    }

    #[test]
    fn a_whole_run_has_no_fault() {
        assert!(faults(&sent(3), &read(&[0, 1, 2]), 3).is_empty());
    }

    #[test]
    fn a_loss_is_noticed() {
        let fault = only_fault(&sent(3), &read(&[0, 2]), 2);
        assert!(
            fault.starts_with("1 acknowledged messages are lost"),
            "{fault}"
        );
    }

    #[test]
    fn what_was_never_acknowledged_may_be_lost() {
        let mut sent = sent(2);
        sent.sent(message(2));
        assert!(faults(&sent, &read(&[0, 1]), 2).is_empty());
    }

    #[test]
    fn a_duplicate_is_noticed_unless_the_client_sent_twice() {
        let mut sent = sent(2);
        let fault = only_fault(&sent, &read(&[0, 1, 1]), 3);
        assert!(fault.contains("2 times, sent 1 times"), "{fault}");
        sent.sent(message(1));
        assert!(faults(&sent, &read(&[0, 1, 1]), 3).is_empty());
    }

    #[test]
    fn a_wrong_order_is_noticed_and_a_repetition_is_none() {
        let fault = only_fault(&sent(3), &read(&[0, 2, 1]), 3);
        assert!(fault.contains("first appears at 2"), "{fault}");
        let mut twice = sent(3);
        twice.sent(message(0));
        assert!(faults(&twice, &read(&[0, 1, 0, 2]), 4).is_empty());
    }

    #[test]
    fn what_a_client_sent_in_another_order_may_come_in_it() {
        let mut sent = Sent::default();
        for number in [0, 1, 2, 4, 5, 1, 2, 3, 6] {
            sent.sent(message(number));
        }
        assert!(faults(&sent, &read(&[0, 4, 5, 1, 2, 3, 6]), 7).is_empty());
        for (numbers, fault) in [
            ([0, 4, 5, 1, 2, 6, 3], "number: 3 } first appears at 6"),
            ([0, 4, 5, 3, 2, 1, 6], "number: 2 } first appears at 4"),
        ] {
            let found = only_fault(&sent, &read(&numbers), 7);
            assert!(found.contains(fault), "{found}");
        }
    }

    #[test]
    fn a_second_landing_is_noticed_by_its_count() {
        let mut twice = sent(2);
        twice.sent(message(1));
        let fault = only_fault(&twice, &read(&[0, 1, 1]), 2);
        assert!(
            fault.starts_with("2 journal entries have landed"),
            "{fault}"
        );
    }

    #[test]
    fn a_hole_and_a_second_partition_are_noticed() {
        let mut records = read(&[0, 1, 2]);
        records[2].offset = 5;
        assert!(only_fault(&sent(3), &records, 3).contains("not dense"));
        let mut records = read(&[0, 1, 2]);
        records[2].partition = 4;
        records[2].offset = 0;
        assert!(only_fault(&sent(3), &records, 3).contains("several partitions"));
    }

    #[test]
    fn a_clients_log_is_read() {
        let sent = Sent::read_log("S d 0\nS d 0\nA d 0\nS d 1\n");
        assert_eq!(
            (
                sent.messages(),
                sent.acknowledgements(),
                sent.transmissions()
            ),
            (2, 1, 3)
        );
    }
}
