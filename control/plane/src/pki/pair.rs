//! One certificate with its key on disk, and what can be read off a certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;

use super::PkiError;
use super::authority::generate;
use crate::data_dir::{keep_private, read_text, write_atomic};

/// Clocks of a cluster differ: a certificate is valid a little before it was made (kubeadm's backdate).
const BACKDATE_S: i64 = 5 * 60;
const DAY_S: i64 = 24 * 60 * 60;

/// `NAME.crt` and `NAME.key`.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    pub(crate) fn at(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
    }

    pub(crate) fn read_cert(&self) -> Result<Option<String>, PkiError> {
        let text = read_text(&self.cert)?;
        if let Some(text) = &text {
            facts(&self.cert, text)?;
        }
        Ok(text)
    }

    pub(crate) fn read_key(&self) -> Result<Option<KeyPair>, PkiError> {
        read_key(&self.key)
    }

    /// The key first: a certificate on disk always has its key.
    pub(crate) fn write(&self, cert_pem: &str, key: &KeyPair) -> Result<(), PkiError> {
        write_atomic(&self.key, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(write_atomic(&self.cert, cert_pem.as_bytes(), 0o644)?)
    }
}

pub(crate) fn read_key(path: &Path) -> Result<Option<KeyPair>, PkiError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    keep_private(path)?;
    KeyPair::from_pem(&text).map(Some).map_err(|e| PkiError::damaged(path, e))
}

pub(crate) fn new_key(path: &Path) -> Result<KeyPair, PkiError> {
    generate(path)
}

/// What decides whether a certificate can stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) common_name: String,
    pub(crate) organizations: BTreeSet<String>,
    /// DNS names and IP addresses as text.
    pub(crate) sans: BTreeSet<String>,
    pub(crate) not_after_s: i64,
    pub(crate) is_ca: bool,
    /// SubjectPublicKeyInfo.
    pub(crate) public_key: Vec<u8>,
    pub(crate) subject_key_id: Vec<u8>,
    pub(crate) authority_key_id: Vec<u8>,
}

/// Reads a PEM certificate; `path` is for the error.
pub(crate) fn facts(path: &Path, text: &str) -> Result<Facts, PkiError> {
    let (_, block) = parse_x509_pem(text.as_bytes()).map_err(|e| PkiError::damaged(path, e))?;
    let cert = block.parse_x509().map_err(|e| PkiError::damaged(path, e))?;
    let mut facts = Facts {
        common_name: cert
            .subject()
            .iter_common_name()
            .filter_map(|a| a.as_str().ok())
            .last()
            .unwrap_or_default()
            .to_owned(),
        organizations: cert.subject().iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect(),
        sans: BTreeSet::new(),
        not_after_s: cert.validity().not_after.timestamp(),
        is_ca: cert.is_ca(),
        public_key: cert.public_key().raw.to_vec(),
        subject_key_id: Vec::new(),
        authority_key_id: Vec::new(),
    };
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                facts.sans.extend(names.general_names.iter().filter_map(san_text));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => facts.subject_key_id = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                facts.authority_key_id = id.key_identifier.as_ref().map(|k| k.0.to_vec()).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn san_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

pub(crate) fn set_validity(params: &mut CertificateParams, now: jiff::Timestamp, days: i64) {
    let at = |unix_s: i64| {
        let since = Duration::from_secs(u64::try_from(unix_s).unwrap_or_default());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = at(now.as_second() - BACKDATE_S);
    params.not_after = at(now.as_second() + days * DAY_S);
}
