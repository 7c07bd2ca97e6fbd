//! Lines to the C library's syslog, which finds the daemon again after its restarts.
#![allow(unsafe_code)]

use std::ffi::CString;

use super::Severity;

/// An open connection to syslog.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: libc::c_int,
}

impl Syslog {
    /// Opens it under that tag. Meant to be called once per process: the C library keeps the tag for good.
    pub(super) fn open(tag: &str, facility: &str) -> Self {
        let tag: &'static CString = Box::leak(Box::new(c_string(tag)));
        let facility = facility_number(facility);
        // SAFETY: the tag lives as long as the process, as openlog wants it.
        unsafe { libc::openlog(tag.as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, facility) };
        Self { facility }
    }

    pub(super) fn line(&self, severity: Severity, text: &str) {
        let priority = match severity {
            Severity::Info => libc::LOG_INFO,
            Severity::Warning => libc::LOG_WARNING,
            Severity::Error => libc::LOG_ERR,
            Severity::Fatal => libc::LOG_CRIT,
        };
        let text = c_string(text);
        // SAFETY: the format takes one C string, and is given one that outlives the call.
        unsafe { libc::syslog(self.facility | priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}

/// Up to the first NUL.
fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().take_while(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

fn facility_number(name: &str) -> libc::c_int {
    match name {
        "auth" => libc::LOG_AUTH,
        "authpriv" => libc::LOG_AUTHPRIV,
        "cron" => libc::LOG_CRON,
        "daemon" => libc::LOG_DAEMON,
        "ftp" => libc::LOG_FTP,
        "lpr" => libc::LOG_LPR,
        "news" => libc::LOG_NEWS,
        "syslog" => libc::LOG_SYSLOG,
        "user" => libc::LOG_USER,
        "uucp" => libc::LOG_UUCP,
        "local0" => libc::LOG_LOCAL0,
        "local1" => libc::LOG_LOCAL1,
        "local2" => libc::LOG_LOCAL2,
        "local3" => libc::LOG_LOCAL3,
        "local4" => libc::LOG_LOCAL4,
        "local5" => libc::LOG_LOCAL5,
        "local6" => libc::LOG_LOCAL6,
        "local7" => libc::LOG_LOCAL7,
        _ => libc::LOG_MAIL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_line_and_any_facility_a_number() {
        assert_eq!(c_string("100 % of\0nothing").to_bytes(), b"100 % of");
        assert_eq!((facility_number("local7"), facility_number("x")), (libc::LOG_LOCAL7, libc::LOG_MAIL));
    }
}
