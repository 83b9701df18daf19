//! A volume that puts several sources into one folder.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;

use super::paths::{descending_free, mode};
use super::volume::{downward_file, key_to_path};
use super::{At, reasons, subdomain};

const TOKEN_S_MIN: i64 = 10 * 60;
const TOKEN_S_MAX: i64 = 1 << 32;
const CERTIFICATE_S_MIN: i64 = 3600;
const CERTIFICATE_S_MAX: i64 = 91 * 24 * 3600;
const KUBERNETES_CERTIFICATE_S_MAX: i64 = 24 * 3600;
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

/// The files of a volume so far.
struct Files<'a> {
    volume: &'a FieldPath,
    paths: BTreeSet<&'a str>,
}

impl<'a> Files<'a> {
    /// A second file of the same path is an error; `shown` is what upstream shows of it.
    fn add(&mut self, path: &'a str, shown: &str, errors: &mut FieldErrors) {
        if !self.paths.insert(path) {
            errors.invalid(self.volume, shown, "conflicting duplicate paths");
        }
    }
}

pub(super) fn volume(at: &At<'_>, errors: &mut FieldErrors) {
    mode(at, "defaultMode", errors);
    let mut files = Files { volume: &at.path, paths: BTreeSet::new() };
    for source in at.each("sources") {
        for field in ["secret", "configMap"] {
            if let Some(of) = source.object(field) {
                keys(&of, &mut files, errors);
            }
        }
        if let Some(of) = source.object("downwardAPI") {
            for file in of.each("items") {
                downward_file(&file, &of, errors);
                if !file.text("path").is_empty() {
                    files.add(file.text("path"), file.text("path"), errors);
                }
            }
        }
        if let Some(of) = source.object("serviceAccountToken") {
            token(&of, at, errors);
        }
        if let Some(of) = source.object("clusterTrustBundle") {
            trust_bundle(&of, errors);
            files.add(of.text("path"), of.text("path"), errors);
        }
        if let Some(of) = source.object("podCertificate") {
            certificate(&of, &mut files, errors);
        }
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        if kinds.iter().filter(|kind| source.given(kind)).count() > 1 {
            errors.forbidden(&source.path, "may not specify more than 1 volume type per source");
        }
    }
}

fn keys<'a>(at: &At<'a>, files: &mut Files<'a>, errors: &mut FieldErrors) {
    at.require("name", errors);
    for item in at.each("items") {
        key_to_path(&item, errors);
        if !item.text("path").is_empty() {
            files.add(item.text("path"), at.text("name"), errors);
        }
    }
}

/// The path is reported at the volume.
fn token(at: &At<'_>, volume: &At<'_>, errors: &mut FieldErrors) {
    let seconds = at.int("expirationSeconds").unwrap_or_default();
    if seconds < TOKEN_S_MIN {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&at.path("expirationSeconds"), seconds, detail);
    }
    if seconds > TOKEN_S_MAX {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&at.path("expirationSeconds"), seconds, detail);
    }
    match at.text("path") {
        "" => errors.required(&volume.path("path"), ""),
        path => descending_free(path, &volume.path("path"), errors),
    }
}

fn trust_bundle(at: &At<'_>, errors: &mut FieldErrors) {
    let (name, signer) = (at.get("name"), at.get("signerName"));
    if name.is_some() && signer.is_some() {
        errors.invalid(&at.path, at.map.clone(), "only one of name and signerName may be used");
    } else if name.is_some() {
        let name = at.text("name");
        if name.is_empty() {
            errors.required(&at.path("name"), "must be a valid object name");
        }
        for reason in bundle_name(name) {
            errors.invalid(&at.path("name"), name, format!("not a valid clustertrustbundlename: {reason}"));
        }
        if at.given("labelSelector") {
            let detail = "labelSelector must be unset if name is specified";
            errors.invalid(&at.path("labelSelector"), at.value("labelSelector"), detail);
        }
    } else if signer.is_some() {
        if at.text("signerName").is_empty() {
            errors.required(&at.path("signerName"), "must be a valid signer name");
        }
        signer_name(at.text("signerName"), &at.path("signerName"), errors);
        at.selector("labelSelector", errors);
    } else {
        errors.required(&at.path, "either name or signerName must be specified");
    }
    at.require("path", errors);
    descending_free(at.text("path"), &at.path("path"), errors);
}

/// A bundle that belongs to a signer is called by it: `example.com:signer:name`.
fn bundle_name(name: &str) -> name::Reasons {
    subdomain(name.rsplit_once(':').map_or(name, |(_, own)| own))
}

/// `example.com/kind.of.signer`
pub(crate) fn signer_name(signer: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        if signer.is_empty() {
            errors.required(path, "");
        } else {
            errors.invalid(
                path,
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            );
        }
        return;
    };
    for reason in subdomain(domain) {
        errors.invalid(path, domain, format!("validating label {domain:?}: {reason}"));
    }
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if rest.is_empty() {
        errors.invalid(path, rest, "validating label \"\": must not be empty");
    } else {
        reasons(path, rest, subdomain(rest), errors);
    }
}

fn certificate<'a>(at: &At<'a>, files: &mut Files<'a>, errors: &mut FieldErrors) {
    let signer = at.text("signerName");
    signer_name(signer, &at.path("signerName"), errors);
    let key_type = at.text("keyType");
    if !KEY_TYPES.contains(&key_type) {
        errors.not_supported(&at.path("keyType"), key_type, &KEY_TYPES);
    }
    if let Some(seconds) = at.int("maxExpirationSeconds") {
        let path = at.path("maxExpirationSeconds");
        if seconds < CERTIFICATE_S_MIN {
            let detail = format!("if provided, maxExpirationSeconds must be >= {CERTIFICATE_S_MIN}");
            errors.invalid(&path, seconds, detail);
        }
        let own = signer
            .split('/')
            .next()
            .is_some_and(|domain| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
        let max = if own { KUBERNETES_CERTIFICATE_S_MAX } else { CERTIFICATE_S_MAX };
        if seconds > max {
            errors.invalid(&path, seconds, format!("if provided, maxExpirationSeconds must be <= {max}"));
        }
    }
    let mut any = false;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = at.text(field);
        if !path.is_empty() {
            any = true;
            descending_free(path, &at.path(field), errors);
            files.add(path, path, errors);
        }
    }
    if !any {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(&at.path, detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(sources: &Value, expect: &[&str]) {
        assert_eq!(errors(&value!({"sources": (sources.clone())}), volume), expect);
    }

    #[test]
    fn tokens() {
        check(&value!([{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]), &[]);
        check(
            &value!([{"serviceAccountToken": {"path": "", "expirationSeconds": 1}}]),
            &[
                "at.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                "at.path: Required value",
            ],
        );
    }

    #[test]
    fn files_meet() {
        check(
            &value!([
                {"secret": {"name": "s", "items": [{"key": "a", "path": "p"}]}},
                {"configMap": {"name": "c", "items": [{"key": "a", "path": "p"}]}, "secret": {"name": "s"}}
            ]),
            &[
                r#"at: Invalid value: "c": conflicting duplicate paths"#,
                "at.sources[1]: Forbidden: may not specify more than 1 volume type per source",
            ],
        );
    }
}
