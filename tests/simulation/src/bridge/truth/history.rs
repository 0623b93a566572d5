//! What a node's devices were told is safe, by edge offset.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_shared::id::{EdgeOffset, StreamName};

use crate::{Stop, violated};

type Payloads = BTreeMap<StreamName, Vec<u64>>;

/// What a journal holds, by edge offset. A clone is the same; [`History::copy`] is another that begins
/// alike.
#[derive(Clone, Debug, Default)]
pub struct History(Rc<RefCell<Payloads>>);

impl History {
    pub fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub fn acknowledged(&self, stream: &StreamName, payload: u64) {
        let mut streams = self.0.borrow_mut();
        streams.entry(stream.clone()).or_default().push(payload);
    }

    pub fn at(&self, stream: &StreamName, offset: u64) -> Option<u64> {
        self.0.borrow().get(stream)?.get(offset as usize).copied()
    }

    /// Of each other lane: the last that came before `payload`, of those that are meant.
    pub fn before(
        &self,
        lane: &StreamName,
        payload: u64,
        is_meant: impl Fn(u64) -> bool,
    ) -> Vec<(StreamName, u64)> {
        let streams = self.0.borrow();
        let others = streams
            .iter()
            .filter(|(name, _)| *name != lane && name.lane().is_some());
        let last = others.filter_map(|(name, payloads)| {
            let earlier = &payloads[..payloads.partition_point(|it| *it < payload)];
            let last = earlier.iter().rev().find(|it| is_meant(**it))?;
            Some((name.clone(), *last))
        });
        last.collect()
    }

    /// The journal was opened again: all that was acknowledged is there, and of what was not, some of
    /// `staged` may be.
    pub fn reopened(
        &self,
        stream: &StreamName,
        next: EdgeOffset,
        staged: &[(StreamName, u64)],
    ) -> Result<(), Stop> {
        let mut streams = self.0.borrow_mut();
        let payloads = streams.entry(stream.clone()).or_default();
        if next.0 < payloads.len() as u64 {
            let what = format!("{stream} had {} and has {next}", payloads.len());
            return violated("what was acknowledged is there", what);
        }
        let (known, more) = (payloads.len(), next.0 as usize - payloads.len());
        let of_stream = staged.iter().filter(|(name, _)| name == stream);
        payloads.extend(of_stream.map(|(_, payload)| *payload).take(more));
        match payloads.len() as u64 == next.0 {
            true => Ok(()),
            false => {
                let what = format!(
                    "{stream}: {next} and not {known}, {} were staged",
                    staged.len()
                );
                violated("a journal holds what was put into it", what)
            }
        }
    }
}
