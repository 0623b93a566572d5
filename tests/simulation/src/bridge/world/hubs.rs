//! The cloud's turn: hubs propose, the log becomes durable, hubs apply and answer.

use tidegate_cloud_protocol::ledger::Effects;

use super::{HUBS, World};
use crate::bridge::cases::Case;
use crate::bridge::cloud::{Hub, Ticket};
use crate::{Stop, violated};

impl World {
    pub(super) fn run_hubs(&mut self) -> Result<(), Stop> {
        for number in 0..HUBS {
            if self.random.percent(50)
                && let Some(hub) = &mut self.hubs[number]
            {
                hub.propose(&mut self.log, self.now_ms as i64);
                let early = hub.take_early();
                self.answer(number, early)?;
            }
        }
        if self.now_ms >= self.log_stalls_until_ms && self.random.percent(60) {
            self.sync_log()?;
        }
        for number in 0..HUBS {
            while let Some(hub) = &mut self.hubs[number] {
                match hub.apply_next(&self.log) {
                    Ok(Some(answers)) => self.answer(number, answers)?,
                    Ok(None) => break,
                    Err(what) => return violated("the ledger does not contradict itself", what),
                }
            }
            self.end_sessions(number);
            let ids: Vec<u64> = self.hubs[number]
                .iter()
                .flat_map(|hub| hub.ends.keys().copied())
                .collect();
            for id in ids {
                self.send_down(number, id);
            }
        }
        Ok(())
    }

    /// A hub closes what is fenced or held, whichever hub's command did it.
    fn end_sessions(&mut self, number: usize) {
        let ended = self.hubs[number].iter().flat_map(Hub::ended);
        for (id, error) in ended.collect::<Vec<_>>() {
            self.cases.note(Case::IdleTold);
            self.close_hub_end(id, error.code, &error.why);
        }
    }

    /// Some of what is in the log becomes durable.
    pub(in crate::bridge) fn sync_log(&mut self) -> Result<(), Stop> {
        let unsynced = (self.log.entries.len() - self.log.durable) as u64;
        if unsynced == 0 {
            return Ok(());
        }
        let from = self.log.durable;
        self.log.durable += self.random.between(1, unsynced + 1) as usize;
        let proposers = self.log.entries[from..self.log.durable].iter();
        let mut hubs: Vec<usize> = proposers
            .filter_map(|entry| entry.proposal.map(|(hub, ..)| hub))
            .collect();
        hubs.dedup();
        if hubs.len() > 1 {
            self.cases.note(Case::TwoHubs);
        }
        self.truth.follow(&self.log)?;
        self.truth.check_held(&self.restored)?;
        self.truth.check_behind(self.cloud_was_restored)
    }

    fn answer(&mut self, number: usize, answers: Vec<(Ticket, Effects)>) -> Result<(), Stop> {
        for (ticket, effects) in answers {
            let (id, edge) = (ticket.link, ticket.edge.clone());
            let Some(hub) = &mut self.hubs[number] else {
                continue;
            };
            match hub.tell(ticket, effects, self.now_ms as i64) {
                Ok(Some(epoch)) => {
                    if let Some(link) = self.links.get(&id) {
                        let history = self.nodes[link.node].history.clone();
                        self.truth.session_granted(&edge, epoch, &history);
                    }
                }
                Ok(None) => {}
                Err(error) => self.close_hub_end(id, error.code, &error.why),
            }
        }
        Ok(())
    }
}
