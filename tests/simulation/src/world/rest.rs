//! The end of a run: no faults any more, everybody comes and stays, until nothing moves. Then all that
//! was promised must have been kept.

use super::World;
use crate::{Stop, violated};

/// Rounds in which all must have come to rest.
const ROUNDS_MAX: usize = 5_000;

impl World {
    pub(super) fn rest(&mut self) -> Result<(), Stop> {
        self.is_resting = true;
        self.power.disarm();
        self.close_all_half_open()?;
        for client in &mut self.clients {
            client.set_slow(false);
        }
        for round in 0..ROUNDS_MAX {
            self.round(round)?;
            if self.is_at_rest()? {
                self.note(format!("at rest after {round} rounds"));
                return self.check();
            }
        }
        let busy: Vec<_> = self.clients.iter().map(|client| client.is_idle()).collect();
        let wires = self.wires_are_empty();
        let unrest = self.broker()?.unrest();
        let what = format!("clients idle: {busy:?}, wires: {wires}, broker: {unrest:?}");
        violated("all comes to rest", what)
    }

    fn round(&mut self, round: usize) -> Result<(), Stop> {
        for client in 0..self.clients.len() {
            let out = &mut self.wires[client].to_server;
            self.clients[client].work(usize::MAX, out);
            self.full_turn(client)?;
        }
        self.broker()?.commit()?;
        if round % 5 == 4 {
            self.broker()?.checkpoint()?;
            self.broker()?.sweep()?;
            self.land()?;
        }
        Ok(())
    }

    fn is_at_rest(&mut self) -> Result<bool, Stop> {
        let clients = self.clients.iter().all(|client| client.is_idle());
        Ok(clients && self.wires_are_empty() && self.broker()?.unrest().is_none())
    }

    fn check(&mut self) -> Result<(), Stop> {
        let broker = self.broker.as_ref().ok_or(Stop::PowerGone)?;
        self.audit.hear(broker.store());
        let reader = broker.store().reader();
        self.audit.check_streams(&reader, &self.promises)?;
        self.promises.check_kept()
    }
}
