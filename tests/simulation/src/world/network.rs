//! The network between clients and broker: bytes in both directions that arrive in pieces, and
//! connections that end at any byte, known to both ends or to the client alone.

use bytes::{Buf, BytesMut};

use super::World;
use crate::Stop;
use crate::promises::ClientIndex;

/// What is on its way on one client's connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub link: Option<u64>,
    pub to_server: BytesMut,
    pub to_client: BytesMut,
}

impl World {
    pub(super) fn come_or_go(&mut self, client: ClientIndex) -> Result<(), Stop> {
        if self.wires[client].link.is_none() {
            let percent = if self.roles[client].is_seldom_there {
                8
            } else {
                90
            };
            if self.random.percent(percent) {
                self.connect(client)?;
            }
            return Ok(());
        }
        match self.random.below(20) {
            0 => self.say_goodbye(client),
            1..3 => self.break_connection(client),
            3 => {
                // A newer connection takes the session over.
                self.break_connection_unseen(client)?;
                self.connect(client)
            }
            _ if self.roles[client].is_seldom_there => self.break_connection(client),
            _ => Ok(()),
        }
    }

    pub(super) fn connect(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let link = self.next_link;
        self.next_link += 1;
        self.note(format!("client {client} connects by {link}"));
        self.broker()?.accept(link);
        if self.random.percent(2) && !self.is_resting {
            self.note(format!("client {client} begins anew"));
            self.clients[client].begin_anew(&mut self.promises);
        }
        let wire = &mut self.wires[client];
        wire.link = Some(link);
        self.clients[client].connect(&mut self.random, &mut wire.to_server);
        Ok(())
    }

    /// The broker has ended the connection: the client finds out.
    fn notice_end(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let Some(link) = self.wires[client].link else {
            return Ok(());
        };
        match self.broker()?.has(link) {
            true => Ok(()),
            false => self.hear_last(client),
        }
    }

    /// Some of what can move for a client moves.
    pub(super) fn turn(&mut self, client: ClientIndex) -> Result<(), Stop> {
        self.notice_end(client)?;
        if self.wires[client].link.is_none() {
            let is_wanted = !self.roles[client].is_seldom_there && self.random.percent(50);
            return if is_wanted {
                self.connect(client)
            } else {
                Ok(())
            };
        }
        for _ in 0..self.random.between(1, 12) {
            match self.random.below(5) {
                0 => self.reach_server(client)?,
                1 => self.reach_client(client)?,
                2 => self.commit_seldom()?,
                _ => self.broker_turn(client)?,
            }
        }
        Ok(())
    }

    /// What others wait for is often durable before all of it was asked for.
    fn commit_seldom(&mut self) -> Result<(), Stop> {
        match self.random.percent(20) {
            true => self.broker()?.commit(),
            false => Ok(()),
        }
    }

    /// Some bytes reach the broker.
    fn reach_server(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let Some(link) = self.wires[client].link else {
            return Ok(());
        };
        let bytes = self.some_of(self.wires[client].to_server.len());
        self.bring_to_server(client, link, bytes)
    }

    fn bring_to_server(
        &mut self,
        client: ClientIndex,
        link: u64,
        bytes: usize,
    ) -> Result<(), Stop> {
        let bytes = self.wires[client].to_server.split_to(bytes);
        self.trace.mix(&bytes);
        self.broker()?.receive(link, &bytes)
    }

    /// The broker sends what it can, and some bytes reach the client.
    fn reach_client(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let Some(link) = self.wires[client].link else {
            return Ok(());
        };
        self.transmit(client, link)?;
        let bytes = self.some_of(self.wires[client].to_client.len());
        self.bring_to_client(client, bytes)
    }

    fn transmit(&mut self, client: ClientIndex, link: u64) -> Result<(), Stop> {
        let mut out = std::mem::take(&mut self.wires[client].to_client);
        let sent = self.broker()?.transmit(link, &mut out);
        if self.broker()?.store().refused() > 0 {
            self.promises.note_refusals();
        }
        self.wires[client].to_client = out;
        sent
    }

    fn bring_to_client(&mut self, client: ClientIndex, bytes: usize) -> Result<(), Stop> {
        let wire = &mut self.wires[client];
        let bytes = bytes.min(wire.to_client.len());
        self.trace.mix(&wire.to_client[..bytes]);
        self.clients[client].receive(
            &wire.to_client[..bytes],
            &mut self.promises,
            &mut wire.to_server,
        )?;
        wire.to_client.advance(bytes);
        self.clients[client].subscribe(&mut wire.to_server);
        Ok(())
    }

    fn some_of(&mut self, bytes: usize) -> usize {
        match self.random.percent(60) {
            true => bytes,
            false => self.random.below(bytes as u64 + 1) as usize,
        }
    }

    /// The broker's own turn for a client: answers of commits, a read, a hand-over.
    fn broker_turn(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let Some(link) = self.wires[client].link else {
            return Ok(());
        };
        match self.random.below(3) {
            0 => self.broker()?.empty_mailbox(link),
            1 => self.broker()?.read(link),
            _ => self.broker()?.feed(link),
        }
    }

    pub(super) fn store_cursor(&mut self, client: ClientIndex) -> Result<(), Stop> {
        if let Some(link) = self.wires[client].link {
            self.broker()?.store_cursor(link);
        }
        Ok(())
    }

    /// All that can move for a client moves.
    pub(super) fn full_turn(&mut self, client: ClientIndex) -> Result<(), Stop> {
        self.notice_end(client)?;
        let Some(link) = self.wires[client].link else {
            return self.connect(client);
        };
        let bytes = self.wires[client].to_server.len();
        self.bring_to_server(client, link, bytes)?;
        let broker = self.broker()?;
        broker.empty_mailbox(link)?;
        broker.read(link)?;
        broker.store_cursor(link);
        self.transmit(client, link)?;
        self.bring_to_client(client, usize::MAX)
    }

    fn say_goodbye(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let wire = &mut self.wires[client];
        self.clients[client].disconnect(&mut wire.to_server);
        self.break_connection(client)
    }

    fn break_connection(&mut self, client: ClientIndex) -> Result<(), Stop> {
        self.break_connection_unseen(client)?;
        if self.random.percent(60) {
            self.close_half_open()?;
        }
        Ok(())
    }

    /// The client's end is gone; of what was on its way, some arrives.
    fn break_connection_unseen(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let Some(link) = self.wires[client].link else {
            return Ok(());
        };
        self.note(format!("client {client} loses {link}"));
        let bytes = self.some_of(self.wires[client].to_server.len());
        self.bring_to_server(client, link, bytes)?;
        self.half_open.push(link);
        self.hear_last(client)
    }

    /// Some of what the broker has sent still arrives; then the client is offline.
    pub(super) fn hear_last(&mut self, client: ClientIndex) -> Result<(), Stop> {
        let bytes = self.some_of(self.wires[client].to_client.len());
        let wire = std::mem::take(&mut self.wires[client]);
        if !self.clients[client].is_offline() {
            let mut nowhere = BytesMut::new();
            let bytes = &wire.to_client[..bytes];
            self.clients[client].receive(bytes, &mut self.promises, &mut nowhere)?;
        }
        self.clients[client].disconnected();
        Ok(())
    }

    /// The broker finds out.
    pub(super) fn close_half_open(&mut self) -> Result<(), Stop> {
        if self.half_open.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.half_open.len() as u64) as usize;
        let link = self.half_open.swap_remove(at);
        self.broker()?.close(link)
    }

    pub(super) fn close_all_half_open(&mut self) -> Result<(), Stop> {
        for link in std::mem::take(&mut self.half_open) {
            self.broker()?.close(link)?;
        }
        Ok(())
    }

    pub(super) fn wires_are_empty(&self) -> bool {
        let mut wires = self.wires.iter();
        wires.all(|wire| wire.to_server.is_empty() && wire.to_client.is_empty())
    }
}
