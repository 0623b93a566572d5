//! The edge node: listeners, router, uplink; a library and the daemon tidegate-edge.
