//! The bridge's drivers: QUIC and TLS, certificates.
