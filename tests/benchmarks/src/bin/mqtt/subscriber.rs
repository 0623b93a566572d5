//! A subscriber that counts: each message must be the next one of its publisher. All messages of a run
//! look alike, so that the next one is compared with what it must be, and parsed only where it differs.

use anyhow::{Context, bail, ensure};

use crate::link::{Link, Output, Scratch};
use crate::publisher::numbers;
use crate::wire::{self, Frame, PUBCOMP, PUBLISH, PUBREL, Shape, Version};

pub struct Subscriber {
    link: Link,
    output: Output,
    messages: Messages,
}

/// What has come.
struct Messages {
    shape: Shape,
    qos: u8,
    payload_bytes: usize,
    /// How many from each publisher.
    counts: Vec<u64>,
    /// Whose was the last one.
    last: Option<usize>,
}

impl Subscriber {
    pub fn new(
        link: Link,
        version: Version,
        topic: &str,
        qos: u8,
        payload_bytes: usize,
        publishers: usize,
    ) -> anyhow::Result<Self> {
        let sample = wire::publish(version, topic, qos, 1, &vec![0; payload_bytes]);
        let sample = Frame::next(&sample)?.context("a sample is not whole")?;
        Ok(Self {
            link,
            output: Output::default(),
            messages: Messages {
                shape: Shape::of(&sample)?,
                qos,
                payload_bytes,
                counts: vec![0; publishers],
                last: None,
            },
        })
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// How many of this publisher's messages have come.
    pub fn count(&self, publisher: usize) -> u64 {
        self.messages.counts[publisher]
    }

    /// Reads messages, and tells how many came; names their publishers, some more than once.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut name: impl FnMut(usize),
    ) -> anyhow::Result<u64> {
        let (messages, output) = (&mut self.messages, &mut self.output.bytes);
        messages.last = None;
        let mut received = 0;
        let open = self.link.receive(scratch, |input| {
            let mut at = 0;
            loop {
                let (bytes, count) = messages.take_alike(&input[at..], output, &mut name)?;
                (at, received) = (at + bytes, received + count);
                let Some(frame) = Frame::next(&input[at..])? else {
                    return Ok(at);
                };
                received += messages.take_other(&frame, output, &mut name)?;
                at += frame.packet.len();
            }
        })?;
        ensure!(open, "the broker closed a subscriber's connection");
        Ok(received)
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Writes acknowledgements.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.link.send(&mut self.output)
    }
}

impl Messages {
    /// Takes whole packets as long as they are of the run's shape: their bytes, and how many they are.
    #[inline]
    fn take_alike(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        name: &mut impl FnMut(usize),
    ) -> anyhow::Result<(usize, u64)> {
        let (mut at, mut count) = (0, 0);
        let answer = wire::answer(self.qos);
        while let Some(packet) = self.shape.first(&input[at..]) {
            self.count_message(&packet[packet.len() - self.payload_bytes..], name)?;
            if let Some(kind) = answer {
                wire::put_ack(output, kind, self.shape.packet_id(packet)?);
            }
            at += packet.len();
            count += 1;
        }
        Ok((at, count))
    }

    /// Another packet, or a message that looks otherwise, as one that is sent again does.
    fn take_other(
        &mut self,
        frame: &Frame<'_>,
        output: &mut Vec<u8>,
        name: &mut impl FnMut(usize),
    ) -> anyhow::Result<u64> {
        match frame.kind() {
            PUBLISH => {
                let qos = frame.qos();
                ensure!(qos == self.qos, "a message came with QoS {qos}");
                self.count_message(frame.payload(self.payload_bytes)?, name)?;
                wire::put_answer(output, frame)?;
                Ok(1)
            }
            PUBREL => {
                wire::put_ack(output, PUBCOMP, frame.acknowledged()?);
                Ok(0)
            }
            other => bail!("packet {other} came to a subscriber"),
        }
    }

    /// Whose message this is; its number must be the next one of its publisher.
    #[inline]
    fn count_message(
        &mut self,
        payload: &[u8],
        name: &mut impl FnMut(usize),
    ) -> anyhow::Result<()> {
        let (publisher, message) = numbers(payload).context("a payload is short")?;
        let count = self.counts.get_mut(publisher);
        let count = count.context("a message came from an unknown publisher")?;
        let next = *count as u32;
        ensure!(message == next, "message {message} came instead of {next}");
        *count += 1;
        if self.last != Some(publisher) {
            self.last = Some(publisher);
            name(publisher);
        }
        Ok(())
    }
}
