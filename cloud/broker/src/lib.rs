//! The cloud broker: Kafka listener, log, hub, HTTP; a library and the daemon tidegate-cloud.
