//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve or sign for a signer, and that
//! nobody becomes an administrator by a certificate request.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::auth::{Attributes, Authorizer, AuthzTarget, Decision, User};
use futures_core::future::BoxFuture;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{forbidden, is};
use crate::lookup::Resource;
use crate::rbac::MASTERS;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: Resource = Resource { group: GROUP, plural: "certificatesigningrequests" };
const POD_REQUESTS: Resource = Resource { group: GROUP, plural: "podcertificaterequests" };
/// The signer whose certificates the API server takes as identities.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whoever approves a request may `approve` for its signer.
pub struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

/// Whoever issues or fails a request may `sign` for its signer.
pub struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

/// No certificate makes its holder an administrator.
pub struct CertificateSubjectRestriction;

impl CertificateApproval {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let Some(old) = &request.old else { return Ok(()) };
        if !is(request, REQUESTS) || request.subresource != "approval" {
            return Ok(());
        }
        let signer = old.str_at(&["spec", "signerName"]);
        if may(&*self.authorizer, &request.user, "approve", signer).await {
            return Ok(());
        }
        Err(forbidden(request, &format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

impl CertificateSigning {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let Some(old) = &request.old else { return Ok(()) };
        let signs = match request.subresource.as_str() {
            "status" if is(request, REQUESTS) => {
                ["certificate", "conditions"].into_iter().any(|field| differs(&request.object, old, field))
            }
            "status" if is(request, POD_REQUESTS) => request.object.get("status") != old.get("status"),
            _ => false,
        };
        let signer = old.str_at(&["spec", "signerName"]);
        if !signs || may(&*self.authorizer, &request.user, "sign", signer).await {
            return Ok(());
        }
        Err(forbidden(request, &format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// Whether a field of the status differs; nothing and empty are one.
fn differs(new: &Value, old: &Value, field: &str) -> bool {
    let filled = |value: &&Value| value.as_array() != Some(&[]) && value.as_str() != Some("") && !value.is_null();
    new.at(&["status", field]).filter(filled) != old.at(&["status", field]).filter(filled)
}

/// Whether a user may use a verb on a signer, by its name or by its domain with a star.
async fn may(authorizer: &dyn Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        let target = AuthzTarget::Resource {
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
        };
        if authorizer.authorize(&Attributes { user, verb, target }).await == Decision::Allow {
            return true;
        }
    }
    false
}

fn check_subject(request: &AdmissionRequest) -> Result<(), Status> {
    let ours = is(request, REQUESTS) && request.subresource.is_empty();
    if !ours || request.object.str_at(&["spec", "signerName"]) != CLIENT_SIGNER {
        return Ok(());
    }
    let organizations = organizations(request.object.str_at(&["spec", "request"]))
        .map_err(|error| forbidden(request, &format!("failed to parse CSR: {error}")))?;
    if organizations.iter().any(|organization| organization == MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(forbidden(request, &why));
    }
    Ok(())
}

/// The organizations of a request's subject; base64 of PEM.
fn organizations(text: &str) -> Result<Vec<String>, String> {
    let pem = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let block = Pem::iter_from_buffer(&pem).next().and_then(Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or_else(|| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    let subject = &request.certification_request_info.subject;
    // What cannot be read as text is no reason to let the request pass.
    let names = subject.iter_organization().map(|name| name.as_str().map(str::to_owned));
    names.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(check_subject(request)))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::request;

    /// Allows one verb on one signer to everybody.
    struct Only(&'static str, &'static str);

    impl Authorizer for Only {
        fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
            let AuthzTarget::Resource { resource: "signers", name, .. } = attributes.target else {
                panic!("signers are asked about")
            };
            let allowed = (attributes.verb, name) == (self.0, self.1);
            let decision = if allowed { Decision::Allow } else { Decision::NoOpinion(String::new()) };
            Box::pin(std::future::ready(decision))
        }
    }

    fn change(resource: Resource, subresource: &str, status: Value) -> AdmissionRequest {
        let object = |status: Value| value!({"metadata": {"name": "a"}, "spec": {"signerName": "example.com/s"}, "status": status});
        let mut request = request(resource, Operation::Update, "", object(status));
        request.subresource = subresource.to_owned();
        request.old = Some(Arc::new(object(value!({}))));
        request
    }

    #[tokio::test]
    async fn approving_is_a_permission_on_the_signer() {
        let ask = async |allowed: Only| {
            let mut request = change(REQUESTS, "approval", value!({"conditions": [{"type": "Approved"}]}));
            CertificateApproval::new(Arc::new(allowed)).validate(&mut request).await.map_err(|status| status.message)
        };
        assert_eq!(ask(Only("approve", "example.com/s")).await, Ok(()));
        assert_eq!(ask(Only("approve", "example.com/*")).await, Ok(()));
        let refused = "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve \
                       requests with signerName \"example.com/s\"";
        assert_eq!(ask(Only("sign", "example.com/s")).await, Err(refused.to_owned()));
    }

    #[tokio::test]
    async fn signing_is_a_permission_on_the_signer() {
        let ask = async |verb, resource, status| {
            let plugin = CertificateSigning::new(Arc::new(Only(verb, "example.com/s")));
            plugin.validate(&mut change(resource, "status", status)).await.is_ok()
        };
        for resource in [REQUESTS, POD_REQUESTS] {
            let issued = || value!({"certificate": "x", "certificateChain": "x"});
            assert!(ask("sign", resource, issued()).await);
            assert!(!ask("approve", resource, issued()).await);
            assert!(ask("approve", resource, value!({})).await, "nothing is signed");
        }
        assert!(ask("approve", REQUESTS, value!({"conditions": []})).await);
        assert!(!ask("approve", REQUESTS, value!({"conditions": [{"type": "Failed"}]})).await);
    }

    #[test]
    fn nobody_asks_to_be_an_administrator() {
        let ask = |signer: &str, organization: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
            let key = rcgen::KeyPair::generate().expect("a key");
            let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
            let spec = value!({"signerName": signer, "request": (STANDARD.encode(pem))});
            let object = value!({"metadata": {"name": "a"}, "spec": spec});
            check_subject(&request(REQUESTS, Operation::Create, "", object)).map_err(|status| status.message)
        };
        assert_eq!(ask(CLIENT_SIGNER, "staff"), Ok(()));
        assert_eq!(ask("example.com/s", MASTERS), Ok(()));
        let refused = ask(CLIENT_SIGNER, MASTERS).expect_err("refused");
        assert!(refused.ends_with(
            "is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        ));
        let object = value!({"metadata": {"name": "a"}, "spec": {"signerName": CLIENT_SIGNER, "request": "eA=="}});
        let broken = check_subject(&request(REQUESTS, Operation::Create, "", object));
        assert!(broken.is_err_and(|status| status.message.contains("failed to parse CSR")));
    }
}
