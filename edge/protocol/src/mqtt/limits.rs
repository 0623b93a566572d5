//! Every bound of the MQTT server, by name and unit. Drivers fill the structs from configuration;
//! the defaults are what an edge runs with when it says nothing.

/// The largest value of a variable byte integer, and so of a remaining length `[MQTT-1.5.5-1]`.
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// A string or binary field carries its length in two bytes.
pub const FIELD_BYTES_MAX: usize = 65_535;

/// What a fixed header takes at most: the type, and four bytes of remaining length.
pub const FIXED_HEADER_BYTES_MAX: usize = 5;

/// The largest packet by default.
pub const PACKET_BYTES_MAX_DEFAULT: u32 = 1024 * 1024;
