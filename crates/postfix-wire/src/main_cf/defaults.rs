//! The parameters that OPTIMUS reads, with Postfix's defaults and what a value must be.
//!
//! Paths and names are those of Debian's build. Defaults that depend on the machine, `myhostname` and `mydomain`, are
//! made elsewhere. Source: `mail_params.h`, `mail_params.c`; the tests compare with the installed `postconf -d`.

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything.
    Text,
    /// Anything but nothing.
    NonEmpty,
    /// `yes` or `no`.
    Bool,
    /// A number in bounds.
    Int { min: i64, max: i64 },
    /// A time of at least so many seconds.
    Time { min_s: u64 },
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Kind,
}

const fn p(name: &'static str, default: &'static str, kind: Kind) -> Parameter {
    Parameter { name, default, kind }
}

/// A parameter that is known.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.binary_search_by(|parameter| parameter.name.cmp(name)).ok().map(|at| &PARAMETERS[at])
}

const NO_MAX: i64 = i32::MAX as i64;
use Kind::{Bool, Int, NonEmpty, Text, Time};

/// Sorted by name.
pub(super) const PARAMETERS: &[Parameter] = &[
    p("address_verify_sender", "$double_bounce_sender", Text),
    p("alternate_config_directories", "", Text),
    p("always_add_missing_headers", "no", Bool),
    p("always_bcc", "", Text),
    p("append_at_myorigin", "yes", Bool),
    p("append_dot_mydomain", "${{$compatibility_level} <level {1} ? {yes} : {no}}", Bool),
    p("authorized_flush_users", "static:anyone", Text),
    p("authorized_mailq_users", "static:anyone", Text),
    p("authorized_submit_users", "static:anyone", Text),
    p("body_checks", "", Text),
    p("body_checks_size_limit", "51200", Int { min: 1, max: NO_MAX }),
    p("bounce_service_name", "bounce", NonEmpty),
    p("cleanup_service_name", "cleanup", NonEmpty),
    p("command_directory", "/usr/sbin", NonEmpty),
    p("compatibility_level", "0", Text),
    p("content_filter", "", Text),
    p("daemon_directory", "/usr/lib/postfix/sbin", NonEmpty),
    p("daemon_timeout", "18000s", Time { min_s: 1 }),
    p("data_directory", "/var/lib/postfix", NonEmpty),
    p("default_privs", "nobody", NonEmpty),
    p("default_process_limit", "100", Int { min: 1, max: NO_MAX }),
    p("default_verp_delimiters", "+=", NonEmpty),
    p("defer_service_name", "defer", NonEmpty),
    p("double_bounce_sender", "double-bounce", NonEmpty),
    p("enable_long_queue_ids", "no", Bool),
    p("enable_original_recipient", "yes", Bool),
    p("export_environment", "TZ MAIL_CONFIG LANG", Text),
    p("flush_service_name", "flush", NonEmpty),
    p("hash_queue_depth", "1", Int { min: 1, max: NO_MAX }),
    p("hash_queue_names", "deferred, defer", NonEmpty),
    p("header_checks", "", Text),
    p("header_size_limit", "102400", Int { min: 1, max: NO_MAX }),
    p("hopcount_limit", "50", Int { min: 1, max: NO_MAX }),
    p(
        "import_environment",
        "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME",
        Text,
    ),
    p("in_flow_delay", "1s", Time { min_s: 0 }),
    p("info_log_address_format", "external", NonEmpty),
    p("internal_mail_filter_classes", "", Text),
    p("ipc_idle", "5s", Time { min_s: 1 }),
    p("ipc_timeout", "3600s", Time { min_s: 1 }),
    p("ipc_ttl", "1000s", Time { min_s: 1 }),
    p("line_length_limit", "2048", Int { min: 512, max: NO_MAX }),
    p("local_header_rewrite_clients", "permit_inet_interfaces", Text),
    p("mail_name", "Postfix", NonEmpty),
    p("mail_owner", "postfix", NonEmpty),
    // The version is compiled into Postfix's programs; this is Debian 12's.
    p("mail_release_date", "20240304", NonEmpty),
    p("mail_version", "3.7.11", NonEmpty),
    p("maillog_file", "", Text),
    p("maillog_file_prefixes", "/var, /dev/stdout", NonEmpty),
    p("max_idle", "100s", Time { min_s: 1 }),
    p("max_use", "100", Int { min: 1, max: NO_MAX }),
    p("maximal_backoff_time", "4000s", Time { min_s: 1 }),
    p("maximal_queue_lifetime", "5d", Time { min_s: 0 }),
    p("message_size_limit", "10240000", Int { min: 0, max: i64::MAX }),
    p("meta_directory", "/etc/postfix", NonEmpty),
    p("milter_header_checks", "", Text),
    p("mime_header_checks", "$header_checks", Text),
    p("minimal_backoff_time", "300s", Time { min_s: 1 }),
    p("multi_instance_directories", "", Text),
    p("multi_instance_enable", "no", Bool),
    p("multi_instance_group", "", Text),
    p("multi_instance_name", "", Text),
    p("multi_instance_wrapper", "", Text),
    p("myorigin", "$myhostname", NonEmpty),
    p("nested_header_checks", "$header_checks", Text),
    p("non_smtpd_milters", "", Text),
    p("pickup_service_name", "pickup", NonEmpty),
    p("postlog_service_name", "postlog", NonEmpty),
    p("process_id_directory", "pid", NonEmpty),
    p("qmgr_message_active_limit", "20000", Int { min: 1, max: NO_MAX }),
    p("queue_directory", "/var/spool/postfix", NonEmpty),
    p("queue_minfree", "0", Int { min: 0, max: i64::MAX }),
    p("queue_run_delay", "300s", Time { min_s: 1 }),
    p("queue_service_name", "qmgr", NonEmpty),
    p("receive_override_options", "", Text),
    p("recipient_delimiter", "", Text),
    p("remote_header_rewrite_domain", "", Text),
    p("rewrite_service_name", "rewrite", NonEmpty),
    p("sendmail_fix_line_endings", "always", NonEmpty),
    p("setgid_group", "postdrop", NonEmpty),
    p("shlib_directory", "/usr/lib/postfix", NonEmpty),
    p("showq_service_name", "showq", NonEmpty),
    p("smtputf8_autodetect_classes", "sendmail, verify", NonEmpty),
    p("smtputf8_enable", "${{$compatibility_level} <level {1} ? {no} : {yes}}", Bool),
    p("soft_bounce", "no", Bool),
    p("strict_smtputf8", "no", Bool),
    p("syslog_facility", "mail", NonEmpty),
    p("syslog_name", "${multi_instance_name?{$multi_instance_name}:{postfix}}", NonEmpty),
    p("trace_service_name", "trace", NonEmpty),
    p("trigger_timeout", "10s", Time { min_s: 1 }),
    p("undisclosed_recipients_header", "", Text),
    p("verp_delimiter_filter", "-=+", NonEmpty),
];
