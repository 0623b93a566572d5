//! Enhanced authentication (4.12): the AUTH packets around CONNECT, and later ones while the connection
//! goes on. What their data means is SCRAM's, in `mqtt::authentication`.

use std::{fmt, sync::Arc, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use ring::hmac;

use super::{ConnectRequest, Connection, State, inbound::Violation};
use crate::mqtt::{
    authentication::{Exchange, SCRAM_SHA_256, ScramError, Users},
    codec::{Auth, AuthProperties, ConnackProperties, Packet, Text},
    reply_code::ReasonCode,
};

/// What a client is told, whatever the reason.
const FAILED: Violation = (ReasonCode::NotAuthorized, "the authentication has failed");

/// What a client can be authenticated by. Made anew for each connection.
#[derive(Clone)]
pub struct Authenticator {
    users: Arc<Users>,
    seed: [u8; 32],
    exchanges: u64,
}

impl Authenticator {
    /// The seed is random, and of this connection alone: its nonces come of it.
    pub fn new(users: Arc<Users>, seed: [u8; 32]) -> Self {
        Self {
            users,
            seed,
            exchanges: 0,
        }
    }

    fn begin(&mut self, client_first: &[u8]) -> Result<(Exchange, String), ScramError> {
        self.exchanges += 1;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        let nonce = hmac::sign(&key, &self.exchanges.to_be_bytes());
        Exchange::begin(&*self.users, client_first, &STANDARD_NO_PAD.encode(nonce))
    }
}

/// Without the seed: who knows it knows the nonces.
impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Authenticator");
        shown.field("users", &self.users).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Authentication {
    offered: Option<Authenticator>,
    /// The CONNECT's, which all that follows must have `[MQTT-4.12.0-5]`.
    method: Option<Text>,
    step: Step,
    /// Who the client is, once that is known.
    name: Option<Text>,
    /// Goes out with the CONNACK.
    server_final: Option<Bytes>,
    /// Of an exchange while the connection goes on.
    deadline: Option<Instant>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    AwaitsFirst,
    AwaitsFinal(Box<Exchange>),
}

/// What the server has to say to the client's data.
enum Answer {
    /// Another message is needed; there is nothing to say where the client has not begun.
    Continue(Option<Bytes>),
    /// Who it is, what that was checked by, and the server's own proof.
    Done(Text, Option<u64>, Bytes),
}

impl Authentication {
    /// Whether it is as good as new.
    pub(super) fn is_idle(&self) -> bool {
        self.offered.is_none() && self.method.is_none() && self.name.is_none()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Adds what a CONNACK says of it `[MQTT-4.12.0-5]`, `[MQTT-4.12.0-6]`.
    pub(super) fn complete(&mut self, connack: &mut ConnackProperties) {
        connack.authentication_method = self.method.clone();
        connack.authentication_data = self.server_final.take();
    }

    fn advance(&mut self, data: Option<Bytes>) -> Result<Answer, ScramError> {
        let Some(offered) = &mut self.offered else {
            return Err(ScramError::Rejected);
        };
        match (std::mem::take(&mut self.step), data) {
            (Step::Idle, None) => {
                self.step = Step::AwaitsFirst;
                Ok(Answer::Continue(None))
            }
            // It was asked for one. Asked again, it could go on like this for ever.
            (Step::AwaitsFirst, None) => Err(ScramError::Missing("n=")),
            (Step::Idle | Step::AwaitsFirst, Some(data)) => {
                let (exchange, server_first) = offered.begin(&data)?;
                self.step = Step::AwaitsFinal(Box::new(exchange));
                Ok(Answer::Continue(Some(server_first.into())))
            }
            (Step::AwaitsFinal(exchange), data) => {
                let done = exchange.finish(&data.unwrap_or_default())?;
                let name = Text::try_from(done.name).map_err(|_| ScramError::Rejected)?;
                let proved_by = offered.users.known(&name).map(|(_, stamp)| stamp);
                Ok(Answer::Done(name, proved_by, done.server_final.into()))
            }
        }
    }

    /// `[MQTT-4.12.0-5]`, 3.15.2.2.2
    fn check_method(&self, properties: &AuthProperties) -> Result<(), Violation> {
        match &properties.authentication_method {
            None => {
                let message = "AUTH has no authentication method";
                Err((ReasonCode::ProtocolError, message))
            }
            method if *method == self.method => Ok(()),
            Some(_) => {
                let message = "AUTH has another authentication method than CONNECT";
                Err((ReasonCode::BadAuthenticationMethod, message))
            }
        }
    }

    fn auth(&self, reason: ReasonCode, authentication_data: Option<Bytes>) -> Packet {
        Packet::Auth(Box::new(Auth {
            reason,
            properties: AuthProperties {
                authentication_method: self.method.clone(),
                authentication_data,
                ..AuthProperties::default()
            },
        }))
    }
}

impl Connection {
    /// Offers SCRAM-SHA-256 to clients of MQTT 5. Without it, any authentication method is refused.
    pub fn offer_authentication(&mut self, authenticator: Authenticator) {
        self.authentication.get_mut().offered = Some(authenticator);
    }

    /// A CONNECT that is right but for what it says of authentication.
    pub(super) fn on_connect_authentication(
        &mut self,
        request: Box<ConnectRequest>,
        method: Option<Text>,
        data: Option<Bytes>,
    ) {
        let Some(method) = method else {
            return self.decide(request);
        };
        // [MQTT-4.12.0-1]
        let authentication = self.authentication.get_mut();
        if authentication.offered.is_none() || method != *SCRAM_SHA_256 {
            let message = "the authentication method is not offered";
            return self.reject(ReasonCode::BadAuthenticationMethod, message);
        }
        authentication.method = Some(method.detached());
        self.state = State::Authenticating { request };
        self.continue_connect(data);
    }

    /// AUTH before the CONNACK `[MQTT-4.12.0-3]`.
    pub(super) fn on_auth_before_connack(&mut self, auth: Auth) {
        if let Err((reason, message)) = self.authentication.get_mut().check_method(&auth.properties)
        {
            return self.fail(reason, message);
        }
        if auth.reason != ReasonCode::ContinueAuthentication {
            let message = "AUTH before the CONNACK does not continue the authentication";
            return self.fail(ReasonCode::ProtocolError, message);
        }
        self.continue_connect(auth.properties.authentication_data);
    }

    fn continue_connect(&mut self, data: Option<Bytes>) {
        match self.authentication.get_mut().advance(data) {
            // [MQTT-4.12.0-2]
            Ok(Answer::Continue(data)) => {
                let reason = ReasonCode::ContinueAuthentication;
                let auth = self.authentication.get_mut().auth(reason, data);
                self.reply(auth);
            }
            Ok(Answer::Done(name, proved_by, server_final)) => {
                self.authentication.get_mut().name = Some(name.clone());
                self.authentication.get_mut().server_final = Some(server_final);
                let state = std::mem::replace(&mut self.state, State::Fresh);
                let State::Authenticating { mut request } = state else {
                    unreachable!("the CONNACK is still to come");
                };
                request.authenticated_name = Some(name);
                request.proved_by = proved_by;
                self.decide(request);
            }
            // [MQTT-4.12.0-4]
            Err(_) => self.reject(FAILED.0, FAILED.1),
        }
    }

    /// Re-authentication: all else goes on meanwhile (4.12.1).
    pub(super) fn on_auth(&mut self, auth: Auth) -> Result<(), Violation> {
        let authentication = self.authentication.get_mut();
        if authentication.method.is_none() {
            // [MQTT-4.12.0-7]
            let message = "AUTH without an authentication method in CONNECT";
            return Err((ReasonCode::ProtocolError, message));
        }
        authentication.check_method(&auth.properties)?;
        match (auth.reason, &authentication.step) {
            // [MQTT-4.12.1-1]
            (ReasonCode::Reauthenticate, Step::Idle) => {
                authentication.deadline = Some(self.now + self.limits.connect_timeout);
            }
            (ReasonCode::ContinueAuthentication, Step::AwaitsFirst | Step::AwaitsFinal(_)) => {}
            _ => {
                let message = "AUTH begins what has begun, or continues what has not";
                return Err((ReasonCode::ProtocolError, message));
            }
        }
        let data = auth.properties.authentication_data;
        let (reason, data) = match authentication.advance(data).map_err(|_| FAILED)? {
            Answer::Continue(data) => (ReasonCode::ContinueAuthentication, data),
            Answer::Done(name, _, data) if Some(&name) == authentication.name.as_ref() => {
                authentication.deadline = None;
                (ReasonCode::Success, Some(data))
            }
            // The session is that of whoever connected.
            Answer::Done(..) => return Err(FAILED),
        };
        let auth = authentication.auth(reason, data);
        self.reply(auth);
        Ok(())
    }

    /// `[MQTT-4.12.1-2]`
    pub(super) fn check_authentication_deadline(&mut self) {
        let deadline = self.authentication.get().and_then(Authentication::deadline);
        if deadline.is_some_and(|deadline| self.now >= deadline) {
            let message = "the authentication took too long";
            self.fail(ReasonCode::NotAuthorized, message);
        }
    }
}
