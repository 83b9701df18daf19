//! The cluster's authority as the controllers of certificate requests use it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_controllers::certificate::{Requested, Signer, Terms};
use corten_stdx::clock::Clock;
use rcgen::{CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{Authority, BACKDATED_S, Names, leaf};

/// Signs with the cluster's authority.
pub struct ClusterSigner {
    pub(super) authority: Authority,
    pub(super) clock: Clock,
}

impl Signer for ClusterSigner {
    fn read(&self, request: &str) -> Result<Requested, String> {
        let der = der(request)?;
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        request.verify_signature().map_err(|error| format!("the request is not signed with its key: {error}"))?;
        let mut requested = Requested::default();
        let subject = &request.certification_request_info.subject;
        let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            name.as_str().map(str::to_owned).map_err(|error| error.to_string())
        };
        requested.common_name = subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        requested.organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => requested.dns.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => {
                        requested.ips.push(leaf::ip(bytes).ok_or("an IP address is too long")?)
                    }
                    _ => requested.has_other_names = true,
                }
            }
        }
        Ok(requested)
    }

    fn sign(&self, request: &str, terms: &Terms<'_>) -> Result<String, String> {
        let requested = self.read(request)?;
        if requested.organizations.len() > 1 {
            return Err("more than one organization in a subject is not supported".to_owned());
        }
        let text = |error: rcgen::Error| error.to_string();
        let mut asked = CertificateSigningRequestParams::from_der(&der(request)?.into()).map_err(text)?;
        // Only what was looked at gets into the certificate.
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for organization in &requested.organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, requested.common_name.as_str());
        for name in &requested.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(text)?));
        }
        params.subject_alt_names.extend(requested.ips.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        (params.key_usages, params.extended_key_usages) = uses(terms.usages);
        params.use_authority_key_identifier_extension = true;
        let from_s = self.clock.wall_s() - BACKDATED_S;
        leaf::set_validity(&mut params, from_s, from_s + terms.lifetime_s);
        asked.params = params;
        let certificate = asked.signed_by(&self.authority.issuer).map_err(text)?;
        Ok(STANDARD.encode(certificate.pem()))
    }
}

fn der(request: &str) -> Result<Vec<u8>, String> {
    let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
    let block = Pem::iter_from_buffer(&pem).next().and_then(Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    Ok(block.ok_or("PEM block type must be CERTIFICATE REQUEST")?.contents)
}

/// The uses of a request in the words of certificates. Those that TLS does not know are left out.
fn uses(usages: &[&str]) -> (Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>) {
    let key = usages.iter().filter_map(|usage| match *usage {
        "digital signature" | "signing" => Some(KeyUsagePurpose::DigitalSignature),
        "key encipherment" => Some(KeyUsagePurpose::KeyEncipherment),
        "key agreement" => Some(KeyUsagePurpose::KeyAgreement),
        _ => None,
    });
    let extended = usages.iter().filter_map(|usage| match *usage {
        "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
        "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
        _ => None,
    });
    (key.collect(), extended.collect())
}

/// A request for a certificate, as an object has it, signed with its key. The other side of [`ClusterSigner`].
pub fn request(
    common_name: &str,
    organization: &str,
    names: &Names,
    key: &rcgen::KeyPair,
) -> Result<String, rcgen::Error> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(names.ips.iter().copied().map(SanType::IpAddress));
    Ok(STANDARD.encode(params.serialize_request(key)?.pem()?))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use corten_stdx::clock::Clock;
    use rcgen::KeyPair;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use x509_parser::prelude::X509Certificate;

    use super::*;
    use crate::pki::Pki;

    #[test]
    fn a_request_becomes_a_certificate_of_the_cluster() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path(), Clock::manual(1_800_000_000_000)).expect("made");
        let signer = pki.signer().expect("the authority");
        let key = KeyPair::generate().expect("a key");
        let names = Names { dns: ["two".to_owned()].into(), ips: [IpAddr::from([10, 0, 0, 2])].into() };
        let request = request("system:node:two", "system:nodes", &names, &key).expect("signed");
        let requested = signer.read(&request).expect("readable");
        assert_eq!(
            (requested.common_name.as_str(), requested.organizations.as_slice()),
            ("system:node:two", ["system:nodes".to_owned()].as_slice())
        );
        let asked = Names { dns: requested.dns.into_iter().collect(), ips: requested.ips.into_iter().collect() };
        assert_eq!(asked, names);
        let terms = Terms { usages: &["server auth", "digital signature"], lifetime_s: 3600 };
        let signed = STANDARD.decode(signer.sign(&request, &terms).expect("signed")).expect("base64");
        let der = CertificateDer::from_pem_slice(&signed).expect("PEM");
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        let (_, authority) = X509Certificate::from_der(pki.cluster_der()).expect("a certificate");
        certificate.verify_signature(Some(authority.public_key())).expect("by the cluster's authority");
        assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), rcgen::PublicKeyData::der_bytes(&key));
        assert!(!certificate.is_ca() && certificate.validity().not_after.timestamp() < 1_800_003_601);
    }

    #[test]
    fn what_is_no_request_is_refused_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path(), Clock::manual(1_800_000_000_000)).expect("made");
        let signer = pki.signer().expect("the authority");
        let check = |text: &str, expect: &str| {
            let why = signer.read(text).expect_err("refused");
            assert!(why.contains(expect), "{why}");
        };
        check("?", "nvalid symbol");
        check(&STANDARD.encode(pki.cluster_pem()), "CERTIFICATE REQUEST");
        let key = KeyPair::generate().expect("a key");
        let good = STANDARD.decode(request("a", "b", &Names::default(), &key).expect("signed")).expect("base64");
        let mut block = Pem::iter_from_buffer(&good).next().expect("one").expect("PEM").contents;
        let last = block.len() - 1;
        block[last] ^= 1;
        let forged = pem(&block);
        assert!(signer.read(&STANDARD.encode(forged)).is_err());
    }

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
    }
}
