//! What a connection's machine says, and whom it concerns. Most is done at once; what must be waited for is
//! given to the driver.

use tidegate_edge_protocol::mqtt::codec::Will;
use tidegate_edge_protocol::mqtt::connection::{CloseReason, Closed, ConnectRequest, Event};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use super::driver::Task;
use super::queueing::Stuck;
use super::turn::Turn;

/// What a connection stands still for.
pub(super) enum Wait {
    /// In the committer's queue.
    Room(Box<Stuck>),
    Connect(Box<ConnectRequest>),
    WillDue(Box<Will>),
    Closed(Box<Closed>),
    /// Others have their turn: it was for every client.
    Others,
}

impl Task {
    pub(super) async fn attend(&mut self, wait: Wait) {
        match wait {
            Wait::Room(stuck) => self.context.wait_for_room(*stuck).await,
            Wait::Connect(request) => self.connect(*request).await,
            Wait::WillDue(will) => self.will_due(*will).await,
            Wait::Closed(closed) => self.let_go(&closed).await,
            Wait::Others => tokio::task::yield_now().await,
        }
    }

    /// Up to the first event that something must be waited for.
    pub(super) fn handle_events(&mut self, turn: &mut Turn) -> Option<Wait> {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Publish { token, publish } => {
                    let is_for_all = publish.message.topic.as_bytes().starts_with(b"$broadcast/");
                    if let Some(stuck) = self.publish(token, publish, turn) {
                        return Some(Wait::Room(stuck));
                    }
                    if is_for_all {
                        return Some(Wait::Others);
                    }
                }
                Event::PublishAgain {
                    token,
                    publish,
                    is_probe,
                } => {
                    if let Some(stuck) = self.publish_again(token, publish, is_probe, turn) {
                        return Some(Wait::Room(stuck));
                    }
                }
                Event::Release { token, packet_id } => self.release(token, packet_id),
                Event::Subscribe {
                    token,
                    filters,
                    subscription_identifier,
                } => self.subscribe(token, filters, subscription_identifier),
                Event::Unsubscribe { token, filters } => self.unsubscribe(token, filters),
                Event::Assign { token, packet_id } => self.assign(token, packet_id),
                Event::Received { token, packet_id } => self.received(token, packet_id),
                Event::DeliveryDone { token, .. } => self.delivery_done(token),
                Event::Connect(request) => return Some(Wait::Connect(request)),
                Event::WillDue(will) => return Some(Wait::WillDue(will)),
                Event::Closed(closed) => {
                    self.ended = true;
                    self.log_end(&closed);
                    self.count_refused_proof(&closed.reason);
                    return Some(Wait::Closed(Box::new(closed)));
                }
            }
        }
        None
    }

    fn log_end(&self, closed: &Closed) {
        let client = String::from_utf8_lossy(&self.client_id);
        let peer = self.peer;
        match &closed.reason {
            CloseReason::ClientDisconnected(_)
            | CloseReason::NetworkClosed
            | CloseReason::Shutdown(ReasonCode::ServerShuttingDown) => {
                tracing::debug!(%peer, ?client, "mqtt: disconnected");
            }
            CloseReason::PeerError { reason, message } => {
                self.context.metrics.closed("peer_error");
                let code = *reason as u8;
                tracing::warn!(%peer, ?client, code, why = message, "mqtt: closed for a breach");
            }
            other => {
                self.context.metrics.closed(reason_label(other));
                tracing::info!(%peer, ?client, why = ?other, "mqtt: closed");
            }
        }
    }
}

fn reason_label(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::ConnectTimeout => "connect_timeout",
        CloseReason::KeepAliveTimeout => "keep_alive_timeout",
        CloseReason::Rejected(_) => "rejected",
        CloseReason::Shutdown(ReasonCode::SessionTakenOver) => "taken_over",
        CloseReason::Shutdown(ReasonCode::UseAnotherServer | ReasonCode::ServerMoved) => {
            "redirected"
        }
        CloseReason::Shutdown(ReasonCode::NotAuthorized) => "not_authorized",
        CloseReason::Shutdown(_) => "quota",
        CloseReason::PublishRefused(_) => "publish_refused",
        _ => "other",
    }
}
