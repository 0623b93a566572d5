//! A node's HTTP API as this command asks it: JSON in, JSON out, and every failure as one line with the
//! next step. By HTTPS where the node's address says so.

use std::io::Read;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{Response, StatusCode};
use ureq::typestate::WithBody;
use ureq::{Agent, RequestBuilder};

use super::access::Access;

/// A node that is there answers a connection at once.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The longest work is an import, which the node syncs.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// An answer larger than this is none of a Tidegate node's.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    /// What it is, and how another one is named: for errors.
    what: &'static str,
    named_by: &'static str,
    access: Access,
}

/// Nobody answers there.
#[derive(Debug, thiserror::Error)]
#[error("no {what} answers at {base} ({why}): is it running? Another one is named with {named_by}")]
pub(crate) struct NoAnswer {
    what: &'static str,
    base: String,
    why: String,
    named_by: &'static str,
}

impl Client {
    /// Of one that does not want to know who asks.
    ///
    /// # Errors
    /// The URL is no HTTP.
    pub(crate) fn new(
        url: &str,
        what: &'static str,
        named_by: &'static str,
    ) -> anyhow::Result<Self> {
        Self::with(url, what, named_by, Access::default())
    }

    /// # Errors
    /// The URL is no HTTP.
    pub(crate) fn with(
        url: &str,
        what: &'static str,
        named_by: &'static str,
        access: Access,
    ) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/');
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            bail!(
                "{url:?} is not an address such as http://127.0.0.1:8080 (give it with {named_by})"
            );
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(ANSWER_MAX))
            .tls_config(access.tls())
            .build();
        Ok(Self {
            agent: config.into(),
            base: base.to_owned(),
            what,
            named_by,
            access,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.json(self.ask(path, query)?)
    }

    /// The answer's body as it comes.
    pub(crate) fn get_lines(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<impl Read + use<>> {
        let response = self.ask(path, query)?;
        if !response.status().is_success() {
            self.json(response)?;
            bail!("{} sent no lines", self.base);
        }
        Ok(response.into_body().into_reader())
    }

    fn ask(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Response<ureq::Body>> {
        let request = self.known(self.agent.get(self.at(path)));
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        self.sent(request.query_pairs(pairs).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send_json(self.agent.post(self.at(path)), body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send_json(self.agent.put(self.at(path)), body)
    }

    fn send_json(&self, request: RequestBuilder<WithBody>, body: &Value) -> anyhow::Result<Value> {
        let request = self.known(request).content_type("application/json");
        self.json(self.sent(request.send(body.to_string()))?)
    }

    /// Says who asks.
    fn known<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.access.header {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        }
    }

    /// A body that the node goes on sending for as long as it is read.
    #[cfg(feature = "up")]
    pub(crate) fn post_and_read(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        let request = self.known(self.agent.post(self.at(path)));
        let config = request.config().timeout_global(None);
        let request = config.timeout_recv_response(Some(ANSWER_MAX)).build();
        let response = self.sent(request.send_empty())?;
        if !response.status().is_success() {
            self.json(response)?;
            bail!("{} sent no lines", self.base);
        }
        Ok(response.into_body().into_reader())
    }

    pub(crate) fn post_lines(&self, path: &str, lines: &str) -> anyhow::Result<Value> {
        let request = self.known(self.agent.post(self.at(path)));
        let request = request.content_type("application/x-ndjson");
        self.json(self.sent(request.send(lines))?)
    }

    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.json(self.sent(self.known(self.agent.delete(self.at(path))).call())?)
    }

    /// What the query means.
    pub(crate) fn delete_where(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Value> {
        let request = self.known(self.agent.delete(self.at(path)));
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        self.json(self.sent(request.query_pairs(pairs).call())?)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn sent(
        &self,
        sent: Result<Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Response<ureq::Body>> {
        sent.map_err(|error| {
            let no_answer = NoAnswer {
                what: self.what,
                base: self.base.clone(),
                why: error.to_string(),
                named_by: self.named_by,
            };
            no_answer.into()
        })
    }

    fn json(&self, mut response: Response<ureq::Body>) -> anyhow::Result<Value> {
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body.read_to_string();
        let text =
            text.map_err(|error| anyhow!("the answer of {} broke off: {error}", self.base))?;
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        match (status, parsed) {
            (status, Some(value)) if status.is_success() => Ok(value),
            (_, Some(value)) if value["error"].is_string() => {
                bail!("{}", value["error"].as_str().unwrap_or_default())
            }
            (StatusCode::PAYLOAD_TOO_LARGE, _) => bail!("{} finds that too large", self.base),
            _ => bail!(
                "{} answers {status}, but not as a Tidegate {} does: is the address right?",
                self.base,
                self.what
            ),
        }
    }
}

/// One part of a path, whatever a user typed.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
