//! Options of the whole node.

use std::collections::BTreeMap;

use super::lines::{Line, Problem};
use super::report::{Fate, Report};

/// What stands below `mqtt` and below `mqtt.limits`.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) mqtt: BTreeMap<&'static str, String>,
    pub(super) limits: BTreeMap<&'static str, String>,
}

/// As the node has them: the largest packet, what is in flight, what one session has waiting.
const PACKET_BYTES: [i64; 2] = [1 << 10, 1 << 20];
const IN_FLIGHT_MAX: i64 = 2_000;
const BACKLOG_BYTES_MIN: i64 = 16 << 20;

impl Settings {
    pub(super) fn take(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.option.as_str() {
            "include_dir" => report.add(line, Fate::Mapped, "what it names was read"),
            // Read before all else.
            "per_listener_settings" => drop(line.boolean()?),
            "persistence" | "retained_persistence" => match line.boolean()? {
                true => report.add(
                    line,
                    Fate::IsSo,
                    "sessions, what waits for them and retained messages are always kept; what is in mosquitto.db stays there",
                ),
                false => report.add(line, Fate::Differs, "they are always kept here"),
            },
            "global_max_connections" => self.connections(line, report)?,
            "max_inflight_messages" => self.in_flight(line, report)?,
            "max_keepalive" => self.keep_alive(line, report)?,
            "max_packet_size" | "message_size_limit" => self.packet(line, report)?,
            "max_queued_bytes" => self.queued_bytes(line, report)?,
            "max_queued_messages" => {
                line.number()?;
                report.add(
                    line,
                    Fate::Differs,
                    "what waits for a client is bounded by bytes: mqtt.session_backlog_bytes_max, 1 GiB for each session",
                );
            }
            "sys_interval" => {
                let seconds = line.number()?;
                self.mqtt.insert("sys_interval", format!("{}s", seconds.max(0)));
                report.add(line, Fate::Mapped, "mqtt.sys_interval");
            }
            other => unreachable!("{other} is no option of the whole node"),
        }
        Ok(())
    }

    fn connections(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.number()? {
            ..=0 => report.add(
                line,
                Fate::Differs,
                "20,000 here, unless mqtt.connections_max says otherwise",
            ),
            most => {
                self.mqtt.insert("connections_max", most.to_string());
                report.add(line, Fate::Mapped, "mqtt.connections_max");
            }
        }
        Ok(())
    }

    fn in_flight(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let asked = line.number()?;
        let most = match asked {
            1..=IN_FLIGHT_MAX => asked,
            _ => IN_FLIGHT_MAX,
        };
        self.limits.insert("inflight_max", most.to_string());
        self.limits
            .insert("outbound_inflight_max", most.to_string());
        match most == asked {
            true => report.add(
                line,
                Fate::Mapped,
                "mqtt.limits.inflight_max and outbound_inflight_max",
            ),
            false => report.add(line, Fate::Differs, "2,000 are the most here, each way"),
        }
        Ok(())
    }

    fn keep_alive(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.number()? {
            most @ 1..=65_535 => {
                self.mqtt.insert("keep_alive_max", format!("{most}s"));
                report.add(
                    line,
                    Fate::Mapped,
                    "mqtt.keep_alive_max, of MQTT 5; an older client's own counts here",
                );
            }
            0 => report.add(line, Fate::IsSo, "there is no such bound"),
            _ => return Err(line.problem("it lies between 0 and 65535")),
        }
        Ok(())
    }

    fn packet(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let asked = line.number()?;
        let [min, max] = PACKET_BYTES;
        let most = match asked {
            ..=0 => max,
            _ => asked.clamp(min, max),
        };
        self.mqtt.insert("packet_bytes_max", format!("{most}B"));
        match asked {
            _ if most == asked && line.option == "max_packet_size" => {
                report.add(line, Fate::Mapped, "mqtt.packet_bytes_max");
            }
            _ if most == asked => report.add(
                line,
                Fate::Differs,
                "mqtt.packet_bytes_max, which counts the whole packet",
            ),
            asked if asked > max => report.not_carried(
                line,
                "1 MiB is the most here: who sends a larger packet is disconnected (0x95)",
            ),
            _ => report.add(
                line,
                Fate::Differs,
                "packets have 1 KiB to 1 MiB at most here",
            ),
        }
        Ok(())
    }

    fn queued_bytes(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.number()? {
            ..=0 => report.add(
                line,
                Fate::Differs,
                "1 GiB for each session here, unless mqtt.session_backlog_bytes_max says otherwise",
            ),
            asked => {
                let most = asked.max(BACKLOG_BYTES_MIN);
                self.mqtt
                    .insert("session_backlog_bytes_max", format!("{most}B"));
                match most == asked {
                    true => report.add(line, Fate::Mapped, "mqtt.session_backlog_bytes_max"),
                    false => report.add(line, Fate::Differs, "16 MiB is the least here"),
                }
            }
        }
        Ok(())
    }
}
