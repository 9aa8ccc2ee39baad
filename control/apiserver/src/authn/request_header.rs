//! Users told by a trusted front proxy in `X-Remote-*` headers.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::UserInfo;

/// The user of `X-Remote-User`, `-Group`, `-Uid`, `-Extra-*`; the proxy itself was checked before.
pub(crate) fn user(headers: &HeaderMap) -> Option<UserInfo> {
    let name = header_values(headers, "x-remote-user").into_iter().find(|v| !v.is_empty())?;
    Some(UserInfo {
        name,
        uid: header_values(headers, "x-remote-uid").into_iter().next().unwrap_or_default(),
        groups: header_values(headers, "x-remote-group"),
        extra: extra_headers(headers, "x-remote-extra-"),
    })
}

/// All values of a header that are text.
pub(crate) fn header_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
}

/// Headers below a prefix; the rest of the name, percent-decoded and in lower case, is the key.
pub(crate) fn extra_headers(headers: &HeaderMap, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(prefix), value.to_str()) {
            extra.entry(percent_decoded(key)).or_default().push(value.to_owned());
        }
    }
    extra
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped =
            (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        at += if escaped.is_some() { 3 } else { 1 };
        out.push(escaped.unwrap_or(byte));
    }
    // Go's PathUnescape keeps bytes; a name that is no UTF-8 stays as it was sent.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned()).to_lowercase()
}
