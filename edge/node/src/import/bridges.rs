//! `connection`: what a bridge takes in is a source here; what it sends out has no place.

use tidegate_shared::fleet::{MqttServer, SourceName};
use tidegate_shared::topic::TopicFilter;

use super::lines::{Line, Problem};
use super::report::{Fate, Report};
use super::yaml::quoted;

/// One bridge.
#[derive(Debug)]
pub(super) struct Bridge {
    opened: Line,
    server: Option<(Line, String, Option<u16>)>,
    client_id: Option<String>,
    user: Option<String>,
    password: Option<(Line, String)>,
    version: &'static str,
    session_expiry_s: Option<i64>,
    reconnect_max_s: Option<i64>,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    is_secure: bool,
    /// Why it can't be a source.
    barred: Option<(Line, &'static str)>,
    subscriptions: Vec<(Line, Subscription)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subscription {
    filter: String,
    qos: i64,
    remote_prefix: String,
    local_prefix: String,
}

/// What goes into the result.
#[derive(Debug, Default)]
pub(super) struct SourceText {
    pub(super) yaml: String,
    /// A file beside it, and the password that it is to hold.
    pub(super) password: Option<(String, String)>,
}

impl Bridge {
    pub(super) fn new(line: &Line) -> Result<Self, Problem> {
        line.text()?;
        Ok(Self {
            opened: line.clone(),
            server: None,
            client_id: None,
            user: None,
            password: None,
            version: "3.1.1",
            session_expiry_s: None,
            reconnect_max_s: None,
            ca: None,
            certificate: None,
            key: None,
            is_secure: false,
            barred: None,
            subscriptions: Vec::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.opened.word()
    }

    pub(super) fn take(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let mapped = |report: &mut Report, why: &str| report.add(line, Fate::Mapped, why);
        match line.option.as_str() {
            "address" | "addresses" => self.address(line, report)?,
            "topic" => self.topic(line, report)?,
            "clientid" | "remote_clientid" => {
                self.client_id = Some(line.text()?);
                mapped(report, "client_id");
            }
            "username" | "remote_username" => {
                self.user = Some(line.text()?);
                mapped(report, "user");
            }
            "password" | "remote_password" => self.password = Some((line.clone(), line.text()?)),
            "bridge_cafile" => {
                self.ca = Some(line.text()?);
                self.is_secure = true;
                mapped(report, "tls.ca");
            }
            "bridge_capath" => {
                let why = "a source takes the authorities of one file (tls.ca), and all of the system's would count instead: left out";
                self.barred = Some((line.clone(), why));
            }
            "bridge_tls_use_os_certs" => {
                self.is_secure |= line.boolean()?;
                mapped(report, "mqtts:// without tls.ca");
            }
            "bridge_certfile" => {
                self.certificate = Some(line.text()?);
                self.is_secure = true;
                mapped(report, "tls.certificate");
            }
            "bridge_keyfile" => {
                self.key = Some(line.text()?);
                mapped(report, "tls.key");
            }
            "bridge_identity" | "bridge_psk" => {
                let why = "there is no TLS by a shared key: the broker must have a certificate";
                self.barred = Some((line.clone(), why));
            }
            "bridge_protocol_version" => self.version(line, report)?,
            "bridge_session_expiry_interval" => {
                self.session_expiry_s = Some(line.number()?.max(60));
                mapped(report, "session_expiry");
            }
            "cleansession" => match line.boolean()? {
                true => report.not_carried(line, "a source's session is always kept: what comes while the node is away is not lost"),
                false => report.add(line, Fate::IsSo, "a source's session is always kept"),
            },
            "restart_timeout" => {
                let last = line.value.split_whitespace().nth(1).unwrap_or(&line.value);
                let seconds = last.parse::<i64>().map_err(|_| line.problem("it is no number"))?;
                self.reconnect_max_s = Some(seconds.clamp(1, 3_600));
                mapped(report, "reconnect_max");
            }
            "start_type" => match line.word() {
                "automatic" => report.add(line, Fate::IsSo, "a source is connected while the node runs"),
                "lazy" | "once" => report.not_carried(line, "a source is connected while the node runs"),
                other => return Err(line.problem(format!("{other:?} is none"))),
            },
            other => unreachable!("{other} is no option of a bridge"),
        }
        Ok(())
    }

    fn version(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        self.version = match line.value.as_str() {
            "mqttv50" => "5",
            "mqttv311" | "mqttv31" => "3.1.1",
            other => return Err(line.problem(format!("{other:?} is no version"))),
        };
        match line.value == "mqttv31" {
            true => report.not_carried(line, "a source speaks 3.1.1 or 5"),
            false => report.add(line, Fate::Mapped, "version"),
        }
        Ok(())
    }

    /// The first of several.
    fn address(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let words = line.value.split_whitespace();
        let all: Vec<_> = words.take_while(|word| !word.starts_with('#')).collect();
        let first = *all
            .first()
            .ok_or_else(|| line.problem("it names no server"))?;
        let bare = first.trim_start_matches('[');
        let (host, port) = match (first.starts_with('['), bare.split_once(']')) {
            (true, Some((host, rest))) => (host, rest.strip_prefix(':')),
            _ => match first.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (first, None),
            },
        };
        let port = port.map(str::parse).transpose();
        let port = port.map_err(|_| line.problem("the port is no number"))?;
        self.server = Some((line.clone(), host.to_owned(), port));
        match all.len() {
            1 => report.add(line, Fate::Mapped, "server"),
            _ => report.not_carried(line, format!("a source has one server: {first} is taken")),
        }
        Ok(())
    }

    /// `PATTERN [DIRECTION [QOS [LOCAL [REMOTE]]]]`
    fn topic(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let mut words = words(&line.value).into_iter();
        let pattern = words
            .next()
            .ok_or_else(|| line.problem("it names no topic"))?;
        let direction = words
            .next()
            .unwrap_or_else(|| "out".to_owned())
            .to_lowercase();
        // A comment may stand behind them.
        let mut words = words.take_while(|word| !word.starts_with('#'));
        let qos = words.next().unwrap_or_else(|| "0".to_owned());
        let qos: i64 = qos
            .parse()
            .map_err(|_| line.problem("the QoS is no number"))?;
        if !(0..=2).contains(&qos) {
            return Err(line.problem("the QoS is 0, 1 or 2"));
        }
        let local_prefix = words.next().unwrap_or_default();
        let remote_prefix = words.next().unwrap_or_default();
        match direction.as_str() {
            "out" => {
                report.not_carried(line, "nothing goes out to another broker: the node's uplink goes to Tidegate's cloud, which any Kafka client reads");
                return Ok(());
            }
            "both" => report.not_carried(
                line,
                "what comes in is taken; nothing goes out to another broker",
            ),
            "in" => {}
            other => return Err(line.problem(format!("{other:?} is no direction"))),
        }
        let filter = format!("{remote_prefix}{pattern}");
        TopicFilter::new(filter.as_str())
            .map_err(|error| line.problem(format!("{filter:?}: {error}")))?;
        let is_special = local_prefix.starts_with('$')
            || local_prefix.is_empty() && filter[remote_prefix.len()..].starts_with('$');
        if is_special || filter.starts_with("$share/") {
            report.not_carried(
                line,
                "topics that begin with $ have a meaning of their own: give them a local prefix",
            );
            return Ok(());
        }
        if self
            .subscriptions
            .iter()
            .any(|(_, other)| other.filter == filter)
        {
            report.not_carried(line, "the filter is there already: a message comes once");
            return Ok(());
        }
        match (direction.as_str(), qos) {
            ("in", 2) => report.add(line, Fate::Differs, "a source takes QoS 1 at most"),
            ("in", _) => report.add(line, Fate::Mapped, "an entry of subscribe"),
            _ => {}
        }
        let subscription = Subscription {
            filter,
            qos: qos.min(1),
            remote_prefix,
            local_prefix,
        };
        self.subscriptions.push((line.clone(), subscription));
        Ok(())
    }

    /// Its entry below `sources`; `None`: it was said why not. `index` makes a name that is none here one.
    pub(super) fn finish(
        self,
        index: usize,
        report: &mut Report,
    ) -> Result<Option<SourceText>, Problem> {
        let (server_line, host, port) = match &self.server {
            Some((line, host, port)) => (line, host, port),
            None => return Err(self.opened.problem("it has no address")),
        };
        if let Some((line, why)) = &self.barred {
            report.not_carried(line, *why);
            report.not_carried(&self.opened, "so it is left out");
            return Ok(None);
        }
        if self.subscriptions.is_empty() {
            report.not_carried(&self.opened, "it takes nothing in: it is left out");
            return Ok(None);
        }
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        // mosquitto's default is 1883, also for TLS.
        let server = format!("{scheme}://{host}:{}", port.unwrap_or(1883));
        server
            .parse::<MqttServer>()
            .map_err(|error| server_line.problem(error.to_string()))?;
        let name = match SourceName::try_from(self.name().to_owned()) {
            Ok(name) => {
                report.add(&self.opened, Fate::Mapped, "an entry of sources");
                name.as_str().to_owned()
            }
            Err(_) => {
                let name = format!("bridge-{index}");
                report.add(
                    &self.opened,
                    Fate::Differs,
                    format!("names of sources have a-z, 0-9, - and _: this one is {name}"),
                );
                name
            }
        };
        Ok(Some(self.text(&name, &server, report)))
    }

    fn text(self, name: &str, server: &str, report: &mut Report) -> SourceText {
        let mut yaml = format!(
            "  - name: {name}\n    mqtt:\n      server: {}\n",
            quoted(server)
        );
        let mut put = |key: &str, value: &str| yaml.push_str(&format!("      {key}: {value}\n"));
        put("version", self.version);
        if let Some(client_id) = &self.client_id {
            put("client_id", &quoted(client_id));
        }
        let mut written = None;
        match (&self.user, self.password) {
            (Some(user), password) => {
                put("user", &quoted(user));
                if let Some((line, password)) = password {
                    let file = format!("{name}.password");
                    put("password_file", &quoted(&file));
                    report.add(
                        &line,
                        Fate::Mapped,
                        format!("the file {file}, with the password in its first line"),
                    );
                    written = Some((file, password));
                }
            }
            (None, Some((line, _))) => report.not_carried(&line, "a password needs a user"),
            (None, None) => {}
        }
        if let Some(seconds) = self.session_expiry_s {
            put("session_expiry", &format!("{seconds}s"));
        }
        if let Some(seconds) = self.reconnect_max_s {
            put("reconnect_max", &format!("{seconds}s"));
        }
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        let files = files
            .into_iter()
            .filter_map(|(key, path)| Some((key, path.as_ref()?)));
        let files: Vec<_> = files
            .map(|(key, path)| format!("{key}: {}", quoted(path)))
            .collect();
        if !files.is_empty() {
            put("tls", &format!("{{{}}}", files.join(", ")));
        }
        yaml.push_str("      subscribe:\n");
        for (_, subscription) in &self.subscriptions {
            let Subscription {
                filter,
                qos,
                remote_prefix,
                local_prefix,
            } = subscription;
            yaml.push_str(&format!(
                "        - {{filter: {}, qos: {qos}",
                quoted(filter)
            ));
            for (key, prefix) in [
                ("remote_prefix", remote_prefix),
                ("local_prefix", local_prefix),
            ] {
                if !prefix.is_empty() {
                    yaml.push_str(&format!(", {key}: {}", quoted(prefix)));
                }
            }
            yaml.push_str("}\n");
        }
        SourceText {
            yaml,
            password: written,
        }
    }
}

/// Separated by spaces; one in quotes may have some, and `""` is empty. What begins with # ends the line.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((word, behind)) => (word, behind),
            None => rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len())),
        };
        if words.len() > 1 && word.starts_with('#') {
            break;
        }
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_may_be_quoted_and_empty() {
        assert_eq!(words("# in 1 \"\" far/"), ["#", "in", "1", "", "far/"]);
        assert_eq!(words("\"a b/#\"  out # why"), ["a b/#", "out"]);
    }
}
