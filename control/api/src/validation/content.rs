//! Formats of names, label keys and other short strings: each check returns upstream's messages.

use std::fmt::Write as _;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_MSG: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Longest DNS label and longest name part of a label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// Messages of what is wrong; empty when nothing is.
pub type Messages = Vec<String>;

/// Upstream's sentence for a string that does not match a pattern.
#[must_use]
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let mut out = message.to_owned();
    if examples.is_empty() {
        out.push(' ');
        out.push('(');
    } else {
        out.push_str(" (e.g. ");
        for (i, example) in examples.iter().enumerate() {
            if i > 0 {
                out.push_str(" or ");
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "'{example}', ");
        }
    }
    let _ = write!(out, "regex used for validation is '{pattern}')");
    out
}

/// `must be between LO and HI, inclusive`
#[must_use]
pub fn range_error(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

fn max_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn edges_and_middle(s: &str, edge: impl Fn(u8) -> bool, middle: impl Fn(u8) -> bool) -> bool {
    let bytes = s.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| middle(*b)),
        _ => false,
    }
}

fn is_label_text(s: &str) -> bool {
    edges_and_middle(s, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn is_subdomain_text(s: &str) -> bool {
    s.split('.').all(is_label_text)
}

fn is_key_text(s: &str) -> bool {
    edges_and_middle(s, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `IsDNS1123Label`.
#[must_use]
pub fn dns1123_label(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_characters(LABEL_MAX));
    }
    if !is_label_text(value) {
        if is_subdomain_text(value) {
            errs.push("must not contain dots".to_owned());
        } else {
            errs.push(regex_error(LABEL_MSG, LABEL_FMT, &["my-name", "123-abc"]));
        }
    }
    errs
}

/// `IsDNS1123Subdomain`.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errs.push(max_characters(SUBDOMAIN_MAX));
    }
    if !is_subdomain_text(value) {
        errs.push(regex_error(SUBDOMAIN_MSG, SUBDOMAIN_FMT, &["example.com"]));
    }
    errs
}

/// `IsDNS1035Label`.
#[must_use]
pub fn dns1035_label(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_characters(LABEL_MAX));
    }
    if !(is_label_text(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        errs.push(regex_error(DNS1035_MSG, DNS1035_FMT, &["my-name", "abc-123"]));
    }
    errs
}

/// `IsValidPathSegmentName`: RBAC names and other names that only must fit a URL path.
#[must_use]
pub fn path_segment_name(value: &str) -> Messages {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ['/', '%'].into_iter().filter(|c| value.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// `IsLabelKey` (also called a qualified name): `[PREFIX/]NAME`.
#[must_use]
pub fn label_key(value: &str) -> Messages {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut errs = Vec::new();
    let parts: Vec<&str> = value.splitn(3, '/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errs.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > SUBDOMAIN_MAX {
                    errs.push(format!("prefix part {}", max_bytes(SUBDOMAIN_MAX)));
                }
                if !is_subdomain_text(prefix) {
                    errs.push(format!("prefix part {}", regex_error(SUBDOMAIN_MSG, SUBDOMAIN_FMT, &["example.com"])));
                }
            }
            *name
        }
        _ => {
            errs.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(KEY_MSG, KEY_FMT, &examples)
            ));
            return errs;
        }
    };
    if name.is_empty() {
        errs.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errs.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !is_key_text(name) {
        errs.push(format!("name part {}", regex_error(KEY_MSG, KEY_FMT, &examples)));
    }
    errs
}

/// `IsLabelValue`.
#[must_use]
pub fn label_value(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_bytes(LABEL_MAX));
    }
    if !value.is_empty() && !is_key_text(value) {
        errs.push(regex_error(VALUE_MSG, &format!("({KEY_FMT})?"), &["MyValue", "my_value", "12345"]));
    }
    errs
}

/// `IsValidPortName`.
#[must_use]
pub fn port_name(port: &str) -> Messages {
    let mut errs = Vec::new();
    if port.len() > 15 {
        errs.push(max_characters(15));
    }
    if port.is_empty() || !port.bytes().all(|b| lower_alnum(b) || b == b'-') {
        errs.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        errs.push("must contain at least one letter (a-z)".to_owned());
    }
    if port.contains("--") {
        errs.push("must not contain consecutive hyphens".to_owned());
    }
    if port.starts_with('-') || port.ends_with('-') {
        errs.push("must not begin or end with a hyphen".to_owned());
    }
    errs
}

/// `IsValidPortNum`.
#[must_use]
pub fn port_number(port: i64) -> Messages {
    in_range(port, 1, 65535)
}

/// `IsInRange`.
#[must_use]
pub fn in_range(value: i64, lo: i64, hi: i64) -> Messages {
    if (lo..=hi).contains(&value) { Vec::new() } else { vec![range_error(lo, hi)] }
}

/// `IsRelaxedEnvVarName` (`RelaxedEnvironmentVariableValidation`, on since 1.32).
#[must_use]
pub fn env_var_name(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.is_empty() {
        errs.push("environment variable name must be non-empty".to_owned());
    }
    if value.chars().any(|c| c == '=' || !(' '..='~').contains(&c)) {
        errs.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    errs
}

/// `IsConfigMapKey`: keys of `ConfigMap` and `Secret` data.
#[must_use]
pub fn config_map_key(value: &str) -> Messages {
    let mut errs = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errs.push(max_characters(SUBDOMAIN_MAX));
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(ok) {
        errs.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => errs.push("must not be '.'".to_owned()),
        ".." => errs.push("must not be '..'".to_owned()),
        v if v.starts_with("..") => errs.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errs
}

/// `IsHTTPHeaderName`.
#[must_use]
pub fn http_header_name(value: &str) -> Messages {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `IsValidPercent`.
#[must_use]
pub fn percent(value: &str) -> Messages {
    match value.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => vec![regex_error(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

/// `IsValidIP` (strict, as `StrictIPCIDRValidation` has it).
#[must_use]
pub fn ip_address(value: &str) -> Messages {
    match value.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// `IsValidCIDR`.
#[must_use]
pub fn cidr(value: &str) -> Messages {
    let valid = value.contains('/') && value.parse::<ipnetwork::IpNetwork>().is_ok();
    if valid { Vec::new() } else { vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()] }
}
