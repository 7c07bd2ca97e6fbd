//! Table of the parameters that OPTIMUS reads, with Postfix's defaults and the kinds of their
//! values.
//!
//! Paths and names are those of Debian's build. The defaults of `myhostname` and `mydomain` depend
//! on the machine; [`super::MainCf`] makes them. Source: `mail_params.h`, `mail_params.c`; the
//! tests compare the table with the installed `postconf -d`.

/// Kind of value that a parameter must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// Any text.
    Text,
    /// Any text except the empty one.
    NonEmpty,
    /// `yes` or `no`.
    Bool,
    /// A number in bounds.
    Int { min: i64, max: i64 },
    /// A time in bounds, seconds.
    Time { min_s: u64, max_s: u64 },
}

/// Parameter, its default, and the kind of its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: ValueKind,
}

const fn p(name: &'static str, default: &'static str, kind: ValueKind) -> Parameter {
    Parameter { name, default, kind }
}

/// Returns the parameter of this name, or `None` if the table lacks it.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.binary_search_by(|parameter| parameter.name.cmp(name)).ok().map(|at| &PARAMETERS[at])
}

use ValueKind::{Bool, NonEmpty, Text};

/// Returns the kind of a number that fits C's `int` and is at least `min`.
const fn int(min: i32) -> ValueKind {
    ValueKind::Int { min: min as i64, max: i32::MAX as i64 }
}

/// Kind of any number that fits C's `long`. Postfix's bound of 0 means no bound, so negative
/// numbers pass.
const LONG: ValueKind = ValueKind::Int { min: i64::MIN, max: i64::MAX };

const fn time(min_s: u64, max_s: u64) -> ValueKind {
    ValueKind::Time { min_s, max_s }
}

/// Kind of a time of at least a second.
const TIME: ValueKind = time(1, u64::MAX);

/// Known parameters, sorted by name.
pub(super) const PARAMETERS: &[Parameter] = &[
    p("address_verify_sender", "$double_bounce_sender", Text),
    p("alias_database", "hash:/etc/aliases", Text),
    p("alternate_config_directories", "", Text),
    p("always_add_missing_headers", "no", Bool),
    p("always_bcc", "", Text),
    p("append_at_myorigin", "yes", Bool),
    p("append_dot_mydomain", "${{$compatibility_level} <level {1} ? {yes} : {no}}", Bool),
    p("authorized_flush_users", "static:anyone", Text),
    p("authorized_mailq_users", "static:anyone", Text),
    p("authorized_submit_users", "static:anyone", Text),
    p("body_checks", "", Text),
    p("body_checks_size_limit", "51200", int(i32::MIN)),
    p("bounce_service_name", "bounce", NonEmpty),
    p("cleanup_service_name", "cleanup", NonEmpty),
    p("command_directory", "/usr/sbin", NonEmpty),
    p("compatibility_level", "0", Text),
    p("content_filter", "", Text),
    p("daemon_directory", "/usr/lib/postfix/sbin", NonEmpty),
    p("daemon_timeout", "18000s", TIME),
    p("data_directory", "/var/lib/postfix", NonEmpty),
    p("default_privs", "nobody", NonEmpty),
    p("default_process_limit", "100", int(1)),
    p("default_verp_delimiters", "+=", NonEmpty),
    p("defer_service_name", "defer", NonEmpty),
    p("double_bounce_sender", "double-bounce", NonEmpty),
    p("empty_address_local_login_sender_maps_lookup_key", "<>", Text),
    p("enable_long_queue_ids", "no", Bool),
    p("enable_original_recipient", "yes", Bool),
    p("export_environment", "TZ MAIL_CONFIG LANG", Text),
    p("flush_service_name", "flush", NonEmpty),
    p("hash_queue_depth", "1", int(1)),
    p("hash_queue_names", "deferred, defer", NonEmpty),
    p("header_checks", "", Text),
    p("header_size_limit", "102400", int(1)),
    p("hopcount_limit", "50", int(1)),
    p(
        "import_environment",
        "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE \
            POSTLOG_HOSTNAME",
        Text,
    ),
    p("in_flow_delay", "1s", time(0, 10)),
    p("info_log_address_format", "external", NonEmpty),
    p("internal_mail_filter_classes", "", Text),
    p("ipc_idle", "5s", TIME),
    p("ipc_timeout", "3600s", TIME),
    p("ipc_ttl", "1000s", TIME),
    p("line_length_limit", "2048", int(512)),
    p("local_header_rewrite_clients", "permit_inet_interfaces", Text),
    p("local_login_sender_maps", "static:*", Text),
    p("mail_name", "Postfix", NonEmpty),
    p("mail_owner", "postfix", NonEmpty),
    // The version is compiled into Postfix's programs. These are Debian 12's values.
    p("mail_release_date", "20240304", NonEmpty),
    p("mail_version", "3.7.11", NonEmpty),
    p("maillog_file", "", Text),
    p("maillog_file_prefixes", "/var, /dev/stdout", NonEmpty),
    p("mailq_path", "/usr/bin/mailq", NonEmpty),
    p("max_idle", "100s", TIME),
    p("max_use", "100", int(1)),
    p("maximal_backoff_time", "4000s", TIME),
    p("maximal_queue_lifetime", "5d", time(0, 8_640_000)),
    p("message_size_limit", "10240000", LONG),
    p("meta_directory", "/etc/postfix", NonEmpty),
    p("milter_header_checks", "", Text),
    p("mime_header_checks", "$header_checks", Text),
    p("minimal_backoff_time", "300s", TIME),
    p("multi_instance_directories", "", Text),
    p("multi_instance_enable", "no", Bool),
    p("multi_instance_group", "", Text),
    p("multi_instance_name", "", Text),
    p("multi_instance_wrapper", "", Text),
    p("myorigin", "$myhostname", NonEmpty),
    p("nested_header_checks", "$header_checks", Text),
    p("newaliases_path", "/usr/bin/newaliases", NonEmpty),
    p("non_smtpd_milters", "", Text),
    p("owner_request_special", "yes", Bool),
    p("pickup_service_name", "pickup", NonEmpty),
    p("postlog_service_name", "postlog", NonEmpty),
    p("process_id_directory", "pid", NonEmpty),
    p("qmgr_message_active_limit", "20000", int(1)),
    p("queue_directory", "/var/spool/postfix", NonEmpty),
    p("queue_minfree", "0", LONG),
    p("queue_run_delay", "300s", TIME),
    p("queue_service_name", "qmgr", NonEmpty),
    p("receive_override_options", "", Text),
    p("recipient_delimiter", "", Text),
    p("remote_header_rewrite_domain", "", Text),
    p("rewrite_service_name", "rewrite", NonEmpty),
    p("sendmail_fix_line_endings", "always", NonEmpty),
    p("sendmail_path", "/usr/sbin/sendmail", NonEmpty),
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
    p("trigger_timeout", "10s", TIME),
    p("undisclosed_recipients_header", "", Text),
    p("verp_delimiter_filter", "-=+", NonEmpty),
];
