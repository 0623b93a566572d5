//! This host's own readings: load, memory, disks, network, temperatures. What a host does not have
//! (a virtual machine has no temperatures) is left out.

use std::collections::BTreeMap;

use sysinfo::{Components, Disks, Networks, System};

/// Readings of one second; a host with hundreds of mounts and interfaces shows the first.
pub(super) const READINGS_MAX: usize = 64;

/// One reading of one sensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) topic: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

impl Reading {
    /// As JSON.
    pub(super) fn payload(&self) -> String {
        format!("{{\"value\":{},\"unit\":\"{}\"}}", self.value, self.unit)
    }
}

/// Reads the host's sensors, one second after the other. Its calls block.
#[derive(Debug)]
pub(super) struct Sampler {
    prefix: String,
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
    /// A CPU's usage is a difference: there is none at first.
    has_usage: bool,
}

impl Sampler {
    pub(super) fn new(host: &str) -> Self {
        Self {
            prefix: format!("demo/{host}"),
            system: System::new().ok(),
            disks: Disks::new().ok(),
            networks: Networks::new().ok(),
            components: Components::new().ok(),
            has_usage: false,
        }
    }

    pub(super) fn sample(&mut self) -> Vec<Reading> {
        // By topic: a disk that is mounted twice is one disk.
        let mut found = BTreeMap::new();
        self.cpu(&mut found);
        self.disks(&mut found);
        self.networks(&mut found);
        self.temperatures(&mut found);
        let readings = found.into_iter().map(|(path, (value, unit))| Reading {
            topic: format!("{}/{path}", self.prefix),
            value,
            unit,
        });
        readings
            .filter(|reading| reading.value.is_finite())
            .take(READINGS_MAX)
            .collect()
    }

    fn cpu(&mut self, found: &mut Found) {
        if let Ok(load) = System::load_average() {
            found.insert("cpu/load".to_owned(), (load.one, "tasks"));
        }
        let Some(system) = &mut self.system else {
            return;
        };
        system.refresh_memory();
        system.refresh_cpu_usage();
        let memory = [
            ("memory/used_bytes", system.used_memory()),
            ("memory/available_bytes", system.available_memory()),
        ];
        for (path, bytes) in memory {
            found.insert(path.to_owned(), (bytes as f64, "B"));
        }
        if self.has_usage {
            let usage = f64::from(system.global_cpu_usage());
            found.insert("cpu/usage".to_owned(), (tenths(usage), "%"));
        }
        self.has_usage = true;
    }

    fn disks(&mut self, found: &mut Found) {
        let Some(disks) = &mut self.disks else { return };
        disks.refresh(true);
        for disk in disks.iter() {
            let name = disk.name().to_string_lossy();
            let name = topic_level(name.rsplit('/').next().unwrap_or_default());
            let free = disk.available_space() as f64;
            found.insert(format!("disk/{name}/free_bytes"), (free, "B"));
        }
    }

    fn networks(&mut self, found: &mut Found) {
        let Some(networks) = &mut self.networks else {
            return;
        };
        networks.refresh(true);
        for (interface, data) in networks.iter() {
            let interface = topic_level(&interface.to_string_lossy());
            let totals = [
                ("received_bytes", data.total_received()),
                ("sent_bytes", data.total_transmitted()),
            ];
            // An interface that nobody uses has nothing to say.
            for (what, bytes) in totals.into_iter().filter(|(_, bytes)| *bytes > 0) {
                found.insert(format!("network/{interface}/{what}"), (bytes as f64, "B"));
            }
        }
    }

    fn temperatures(&mut self, found: &mut Found) {
        let Some(components) = &mut self.components else {
            return;
        };
        components.refresh(true);
        for component in components.iter() {
            if let Some(celsius) = component.temperature() {
                let sensor = topic_level(component.label());
                let reading = (tenths(f64::from(celsius)), "°C");
                found.insert(format!("temperature/{sensor}"), reading);
            }
        }
    }
}

/// Value and unit by topic, below the host's.
type Found = BTreeMap<String, (f64, &'static str)>;

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A name as one level of an MQTT topic that is also easy to type: what is no letter, digit, `.`, `_`
/// or `-` becomes `-`.
pub(crate) fn topic_level(name: &str) -> String {
    let level: String = name
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() || "._-".contains(c) {
            true => c,
            false => '-',
        })
        .collect();
    level.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_level_without_wildcards() {
        for (name, level) in [
            ("eth0", "eth0"),
            ("coretemp Core 0", "coretemp-Core-0"),
            ("a/b+#", "a-b"),
            ("/", ""),
        ] {
            assert_eq!(topic_level(name), level);
        }
    }

    #[test]
    fn a_payload_is_json() {
        let reading = |value, unit| Reading {
            topic: "t".to_owned(),
            value,
            unit,
        };
        let payload = reading(0.42, "tasks").payload();
        assert_eq!(payload, r#"{"value":0.42,"unit":"tasks"}"#);
        let payload = reading(123_456_789_012.0, "B").payload();
        assert_eq!(payload, r#"{"value":123456789012,"unit":"B"}"#);
    }

    #[test]
    fn this_host_has_readings() {
        let mut sampler = Sampler::new("here");
        sampler.sample();
        let readings = sampler.sample();
        assert!(readings.len() <= READINGS_MAX);
        for topic in ["demo/here/cpu/load", "demo/here/memory/used_bytes"] {
            let found = readings.iter().find(|reading| reading.topic == topic);
            assert!(found.is_some(), "{topic} is missing in {readings:?}");
        }
        let mut topics: Vec<_> = readings.iter().map(|reading| &reading.topic).collect();
        topics.dedup();
        assert_eq!(topics.len(), readings.len(), "a topic is there twice");
    }
}
