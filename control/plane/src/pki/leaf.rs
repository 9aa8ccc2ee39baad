//! Leaf certificates: for a year, made anew before they end or when what they must say has changed.

use std::collections::BTreeSet;
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::PkiError;
use super::authority::{Authority, key_spki};
use super::pair::{self, Facts, Pair};

const VALID_DAYS: i64 = 365;
/// A certificate that ends within this is made anew.
const RENEW_BEFORE_S: i64 = 30 * 24 * 60 * 60;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// What a certificate must say.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) common_name: &'a str,
    pub(crate) organizations: &'a [&'a str],
    /// DNS names and IP addresses as text.
    pub(crate) sans: BTreeSet<String>,
    pub(crate) usage: Usage,
}

/// A leaf in PEM, and whether it was just made.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) issued: bool,
}

/// Reads the pair below `dir`, or issues it.
pub(crate) fn load_or_issue(
    dir: &Path,
    authority: &Authority,
    wanted: &Wanted<'_>,
    now: jiff::Timestamp,
) -> Result<Leaf, PkiError> {
    let pair = Pair::at(dir, wanted.name);
    if let (Some(cert_pem), Some(key)) = (pair.read_cert()?, pair.read_key()?) {
        let facts = pair::facts(&pair.cert, &cert_pem)?;
        match reason_to_renew(&facts, &key_spki(&key), authority, wanted, now) {
            None => return Ok(Leaf { cert_pem, key_pem: key.serialize_pem(), issued: false }),
            Some(reason) => {
                tracing::info!(certificate = %pair.cert.display(), reason, "issuing a new certificate");
            }
        }
    }
    let (leaf, key) = issue(&pair.cert, authority, wanted, now)?;
    pair.write(&leaf.cert_pem, &key)?;
    Ok(leaf)
}

/// A new key and its certificate; `path` is for the error.
pub(crate) fn issue(
    path: &Path,
    authority: &Authority,
    wanted: &Wanted<'_>,
    now: jiff::Timestamp,
) -> Result<(Leaf, KeyPair), PkiError> {
    let key = pair::new_key(path)?;
    let params = params(wanted, now).map_err(|e| PkiError::issue(path, e))?;
    let cert = params.signed_by(&key, &authority.issuer).map_err(|e| PkiError::issue(path, e))?;
    Ok((Leaf { cert_pem: cert.pem(), key_pem: key.serialize_pem(), issued: true }, key))
}

/// `None`: it can stay.
pub(crate) fn reason_to_renew(
    facts: &Facts,
    key_spki: &[u8],
    authority: &Authority,
    wanted: &Wanted<'_>,
    now: jiff::Timestamp,
) -> Option<&'static str> {
    let organizations: BTreeSet<String> = wanted.organizations.iter().map(|o| (*o).to_owned()).collect();
    if facts.not_after_s - RENEW_BEFORE_S < now.as_second() {
        Some("it ends within 30 days")
    } else if facts.public_key != key_spki {
        Some("it does not belong to its key")
    } else if facts.authority_key_id != authority.key_id {
        Some("it is from another CA")
    } else if facts.common_name != wanted.common_name || facts.organizations != organizations {
        Some("it is for another subject")
    } else if facts.sans != wanted.sans {
        Some("its names and addresses changed")
    } else {
        None
    }
}

fn params(wanted: &Wanted<'_>, now: jiff::Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(wanted.sans.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    for organization in wanted.organizations {
        params.distinguished_name.push(DnType::OrganizationName, *organization);
    }
    params.distinguished_name.push(DnType::CommonName, wanted.common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match wanted.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    pair::set_validity(&mut params, now, VALID_DAYS);
    Ok(params)
}
