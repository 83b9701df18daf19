//! One leaf certificate: making it, and telling whether a stored one is still good.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, BACKDATED_S, LEAF_S, Names, PkiError};

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
    /// Half life, in Unix seconds.
    pub renew_at_s: i64,
}

/// What a leaf has to be.
pub(super) struct Wanted<'a> {
    pub(super) file: &'static str,
    pub(super) common_name: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) names: Names,
    pub(super) usage: ExtendedKeyUsagePurpose,
}

impl Leaf {
    pub(super) fn make(wanted: &Wanted<'_>, authority: &Authority, now_s: i64) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Making { name: wanted.file, source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = wanted.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        for name in &wanted.names.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params.subject_alt_names.extend(wanted.names.ips.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![wanted.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        let not_before_s = now_s - BACKDATED_S;
        set_validity(&mut params, not_before_s, not_before_s + LEAF_S);
        let certificate = params.signed_by(&key, &authority.issuer).map_err(failed)?;
        let renew_at_s = not_before_s + LEAF_S / 2;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), renew_at_s })
    }

    /// The leaf in a stored text, if it is what is wanted, of this authority, and before its half life. Whatever is
    /// wrong with it, the remedy is the same: a new one.
    pub(super) fn good(text: &str, wanted: &Wanted<'_>, authority: &Authority, now_s: i64) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let key = KeyPair::from_pem(&text[text.find("-----BEGIN PRIVATE KEY-----")?..]).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let (_, issuer) = X509Certificate::from_der(&authority.der).ok()?;
        certificate.verify_signature(Some(issuer.public_key())).ok()?;
        let validity = certificate.validity();
        let (from_s, to_s) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let renew_at_s = from_s + (to_s - from_s) / 2;
        let good = (from_s..renew_at_s).contains(&now_s)
            && certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && names_of(&certificate)? == wanted.names;
        let certificate_pem = text[..text.find("-----BEGIN PRIVATE KEY-----")?].to_owned();
        good.then(|| Self { certificate_pem, key_pem: key.serialize_pem(), renew_at_s })
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names::default();
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(names) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.dns.insert((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.ips.insert(ip(bytes)?),
            _ => return None,
        };
    }
    Some(names)
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Sets the time of validity; a time before 1970 is 1970.
pub(super) fn set_validity(params: &mut CertificateParams, from_s: i64, to_s: i64) {
    let since_epoch = |unix_s: i64| Duration::from_secs(u64::try_from(unix_s).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(from_s);
    params.not_after = epoch + since_epoch(to_s);
}
