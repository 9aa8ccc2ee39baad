//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve and sign
//! a CertificateSigningRequest, and that none makes an administrator.

use std::sync::Arc;

use base64::Engine as _;
use orlop_api::status::Status;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::fields::str_at;
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::authn::UserInfo;
use crate::authz::{self, Attributes};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct Certificates {
    authorizer: Arc<authz::Chain>,
}

impl Certificates {
    pub(super) fn new(authorizer: Arc<authz::Chain>) -> Self {
        Self { authorizer }
    }

    /// `verb` on the signer, or on all signers of its domain.
    fn may(&self, request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
        let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
        [signer, &domain].iter().any(|name| {
            let attributes = Attributes {
                user: request.user.clone(),
                verb: verb.to_owned(),
                api_group: GROUP.to_owned(),
                api_version: "*".to_owned(),
                resource: "signers".to_owned(),
                name: (*name).to_owned(),
                resource_request: true,
                ..Attributes::default()
            };
            self.authorizer.authorize(&attributes).is_allowed()
        })
    }
}

/// Whom a request's certificate would be for.
pub(super) struct RequestedSubject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

/// The subject of `spec.request` (base64 of a PEM block), where it can be read.
pub(super) fn requested_subject(csr: &Value) -> Option<RequestedSubject> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(str_at(csr, "/spec/request")).ok()?;
    let block = pem::parse(bytes).ok()?;
    let (_, request) = X509CertificationRequest::from_der(block.contents()).ok()?;
    let subject = &request.certification_request_info.subject;
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    Some(RequestedSubject {
        common_name: subject.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
    })
}

#[async_trait::async_trait]
impl AdmissionPlugin for Certificates {
    fn name(&self) -> &'static str {
        "CertificateApproval, CertificateSigning, CertificateSubjectRestriction"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.is(GROUP, RESOURCE) {
            return Ok(());
        }
        let Some(new) = request.new_object() else { return Ok(()) };
        let old = request.old_object.unwrap_or(&Value::Null);
        // What is stored says who signs; the update's own word could be anything.
        let signer = str_at(old, "/spec/signerName");
        match (request.operation, request.subresource) {
            (Operation::Create, "") => {
                let masters =
                    requested_subject(new).is_some_and(|s| s.organizations.iter().any(|o| o == UserInfo::MASTERS));
                if str_at(new, "/spec/signerName") == CLIENT_SIGNER && masters {
                    return Err(request.forbid(format!(
                        "use of {CLIENT_SIGNER} signer with {} group is not allowed",
                        UserInfo::MASTERS
                    )));
                }
            }
            (Operation::Update, "approval") if !self.may(request, "approve", signer) => {
                let why = format!("user not permitted to approve requests with signerName {signer:?}");
                return Err(request.forbid(why));
            }
            (Operation::Update, "status") => {
                let changed = ["/status/certificate", "/status/conditions"]
                    .iter()
                    .any(|p| old.pointer(p).filter(|v| !v.is_null()) != new.pointer(p).filter(|v| !v.is_null()));
                if changed && !self.may(request, "sign", signer) {
                    let why = format!("user not permitted to sign requests with signerName {signer:?}");
                    return Err(request.forbid(why));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
