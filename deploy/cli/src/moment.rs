//! Moments as people write them: RFC 3339, milliseconds since the Unix epoch, or how long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
///
/// # Errors
/// With what can be written.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    at(text, SystemTime::now())
}

fn at(text: &str, now: SystemTime) -> Result<i64, String> {
    if let Ok(ms @ 0..) = text.parse::<i64>() {
        return Ok(ms);
    }
    let ago = text.strip_suffix("ago").map(str::trim);
    let since = match ago {
        Some(age) => before(age, now),
        None => in_utc(text),
    };
    let ms = since.as_ref().map(Duration::as_millis);
    ms.and_then(|ms| i64::try_from(ms).ok()).ok_or_else(|| {
        "give a time such as 2026-11-25T17:00:00Z, \"10m ago\", or milliseconds since 1970"
            .to_owned()
    })
}

/// A date and a time, in UTC, since the Unix epoch.
pub(crate) fn in_utc(text: &str) -> Option<Duration> {
    let moment = humantime::parse_rfc3339_weak(text.trim_end_matches('Z'));
    moment.ok()?.duration_since(UNIX_EPOCH).ok()
}

/// So long before `now` (`10m`), since the Unix epoch.
pub(crate) fn before(age: &str, now: SystemTime) -> Option<Duration> {
    let age = humantime::parse_duration(age).ok()?;
    now.checked_sub(age)?.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(at("1700000000000", now), Ok(1_700_000_000_000));
        assert_eq!(at("1970-01-02T00:00:00Z", now), Ok(86_400_000));
        assert_eq!(at("1970-01-02 00:00:00", now), Ok(86_400_000));
        assert_eq!(at("1m ago", now), Ok(999_940_000));
        for wrong in ["yesterday", "-1", "1x ago", ""] {
            assert!(at(wrong, now).is_err(), "{wrong}");
        }
    }
}
