//! Every normative statement of MQTT 5 and 3.1.1 that binds a server, as raw packets over a real socket. A
//! test's name begins with a statement's number (`v5_3_1_2_5_…` is `[MQTT-3.1.2-5]` of MQTT 5); `clauses!`
//! names all that it shows. `deploy/docs/mqtt-conformance.md` is made of these.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mqtt_conformance {
    #[macro_use]
    mod support;

    mod authentication;
    mod coming_back;
    mod connack;
    mod connect_form;
    mod disconnect;
    mod exactly_once;
    mod expiry;
    mod flow;
    mod handed_on;
    mod headers;
    mod hostile;
    mod keep_alive;
    mod overlapping;
    mod page;
    mod publish_form;
    mod retained;
    mod sessions;
    mod shared;
    mod small_packets;
    mod strings;
    mod subscribe;
    mod topics;
    mod unsubscribe;
    mod websocket;
    mod wills;
}
