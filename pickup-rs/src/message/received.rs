//! The trace header, as stock pickup writes it.
//!
//! ```text
//! Received: by mail.example.org (Postfix, from userid 1000)
//!         id 4C1B21A0; Sat, 21 Nov 2026 09:04:00 +0100 (CET)
//! ```

use postfix_wire::QueueId;

use host::local_time::{DAYS, LocalTime, MONTHS, local_time};

/// Returns the two lines of the header.
pub(super) fn lines(
    hostname: &str,
    mail_name: &str,
    uid: u32,
    queue_id: &QueueId,
    time_s: i64,
) -> [String; 2] {
    [
        format!("Received: by {hostname} ({mail_name}, from userid {uid})"),
        format!("\tid {queue_id}; {}", date(&local_time(time_s))),
    ]
}

/// Formats a date as in RFC 5322, with the zone's name as a comment. The day is padded with a
/// blank, as Postfix does.
fn date(time: &LocalTime) -> String {
    let (sign, offset_min) =
        if time.offset_s < 0 { ('-', -time.offset_s / 60) } else { ('+', time.offset_s / 60) };
    format!(
        "{}, {:2} {} {} {:02}:{:02}:{:02} {sign}{:02}{:02} ({})",
        DAYS[time.weekday % DAYS.len()],
        time.day,
        MONTHS[time.month % MONTHS.len()],
        time.year,
        time.hour,
        time.minute,
        time.second,
        offset_min / 60,
        offset_min % 60,
        time.zone
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(offset_s: i64, zone: &str) -> LocalTime {
        let zone = zone.to_owned();
        LocalTime {
            year: 2026,
            month: 10,
            day: 1,
            weekday: 0,
            hour: 9,
            minute: 4,
            second: 5,
            offset_s,
            zone,
        }
    }

    #[test]
    fn dates_have_the_form_of_postfix() {
        assert_eq!(date(&sample(3600, "CET")), "Sun,  1 Nov 2026 09:04:05 +0100 (CET)");
        assert_eq!(date(&sample(0, "UTC")), "Sun,  1 Nov 2026 09:04:05 +0000 (UTC)");
        assert_eq!(date(&sample(-12_600, "NST")), "Sun,  1 Nov 2026 09:04:05 -0330 (NST)");
    }

    #[test]
    fn the_header_has_two_lines() {
        let [first, second] =
            lines("mx.example.org", "Postfix", 1000, &"4C1B21A0".parse().unwrap(), 0);
        assert_eq!(first, "Received: by mx.example.org (Postfix, from userid 1000)");
        assert!(second.starts_with("\tid 4C1B21A0; Thu,  1 Jan 1970 "), "{second}");
    }
}
