//! Points in time as people read them, in UTC.

use x509_parser::time::ASN1Time;

/// `2026-11-30 17:45:05 UTC`.
pub(super) fn shown_ms(ms: i64) -> String {
    shown_s(ms.div_euclid(1_000))
}

pub(super) fn shown_s(seconds: i64) -> String {
    match ASN1Time::from_timestamp(seconds) {
        Ok(time) => shown(&time),
        Err(_) => format!("{seconds} s since 1970"),
    }
}

pub(super) fn shown(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    let (month, day) = (u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!(
        "{:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC",
        time.year()
    )
}

/// `3 days`, `40 minutes`: one unit is enough for a difference.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    let (count, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_people() {
        assert_eq!(shown_ms(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(shown_ms(1_795_974_305_999), "2026-11-29 17:45:05 UTC");
        assert_eq!(shown_ms(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(span(-119_999), "119 seconds");
        assert_eq!(span(3 * 86_400_000), "3 days");
    }
}
