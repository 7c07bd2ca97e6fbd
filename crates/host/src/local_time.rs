//! Local time of this machine, from the C library, so that `TZ` and `/etc/localtime` count as they
//! do for Postfix.
#![allow(unsafe_code)]

use std::ffi::CStr;

/// Names of the days in mail and log lines, whatever the locale is.
pub const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// Names of the months in mail and log lines.
pub const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A point in time, by the local calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, as 2023.
    pub year: i64,
    /// Month, from 0.
    pub month: usize,
    /// Day of the month, from 1.
    pub day: u32,
    /// Day of the week, from 0, which is Sunday.
    pub weekday: usize,
    /// Hours since midnight.
    pub hour: u32,
    /// Minutes since the hour.
    pub minute: u32,
    /// Seconds since the minute.
    pub second: u32,
    /// Seconds east of Greenwich.
    pub offset_s: i64,
    /// Name of the zone, `CET` for example.
    pub zone: String,
}

/// Converts `unix_s`, Unix seconds. A time that the C library can't express becomes 1970.
pub fn local_time(unix_s: i64) -> LocalTime {
    // SAFETY: `tm` is a C struct of integers and a pointer, for which all zeroes is a value.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types; the result, which points to
    // `tm`, is only compared.
    let converted = unsafe { !libc::localtime_r(&unix_s, &mut tm).is_null() };
    if !converted && unix_s != 0 {
        return local_time(0);
    }
    from_tm(&tm)
}

impl LocalTime {
    /// Returns the time as asctime(3) formats it, without the year: `Sat Nov 21 09:20:13`.
    pub fn asctime(&self) -> String {
        format!("{} {}", DAYS[self.weekday % DAYS.len()], self.of_log())
    }

    /// Returns the time as in syslog lines: `Nov 21 09:20:13`.
    pub fn of_log(&self) -> String {
        let (month, day) = (MONTHS[self.month % MONTHS.len()], self.day);
        format!("{month} {day:>2} {:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

fn from_tm(tm: &libc::tm) -> LocalTime {
    let unsigned = |value: libc::c_int| u32::try_from(value).unwrap_or_default();
    LocalTime {
        year: i64::from(tm.tm_year) + 1900,
        month: unsigned(tm.tm_mon) as usize,
        day: unsigned(tm.tm_mday),
        weekday: unsigned(tm.tm_wday) as usize,
        hour: unsigned(tm.tm_hour),
        minute: unsigned(tm.tm_min),
        second: unsigned(tm.tm_sec),
        offset_s: tm.tm_gmtoff,
        zone: zone_of(tm),
    }
}

fn zone_of(tm: &libc::tm) -> String {
    if tm.tm_zone.is_null() {
        return String::new();
    }
    // SAFETY: the pointer is not null, and `localtime_r` sets it to a C string that lives until the
    // zone is set anew. This program doesn't do that after the first conversion.
    unsafe { CStr::from_ptr(tm.tm_zone) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_minus_its_offset_is_universal() {
        let time = local_time(1_700_000_000);
        let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - time.offset_s / 60;
        assert_eq!(minutes.rem_euclid(24 * 60), 22 * 60 + 13, "{time:?}");
        assert_eq!((time.year, time.month, time.second), (2023, 10, 20));
        assert!(!time.zone.is_empty());
    }

    #[test]
    fn a_day_of_one_figure_has_its_column() {
        let time = LocalTime {
            day: 3,
            hour: 4,
            minute: 5,
            second: 6,
            weekday: 0,
            month: 1,
            ..local_time(0)
        };
        assert_eq!(time.asctime(), "Sun Feb  3 04:05:06");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_1970() {
        assert_eq!(local_time(i64::MAX), local_time(0));
    }
}
