//! Every stored kind passes the same table of cases as a custom resource.
//!
//! Kinds whose objects have names by a rule of their own (an address, a group and version, a certificate request's
//! signature) are left to the tests of those rules.

use corten_apimachinery::value::Value;
use corten_apimachinery::yaml;
use corten_apiserver::testing::Bench;
use corten_apiserver::testing::table::{self, Sample};

use crate::services::around_services;

/// Stored kinds without a sample, and why.
const WITHOUT: [(&str, &str); 5] = [
    ("APIService", "named by its version and group"),
    ("CertificateSigningRequest", "needs a signed request"),
    ("CustomResourceDefinition", "named by its plural and group"),
    ("Event", "of events.k8s.io: the same objects as the core group's, with stricter rules for new ones"),
    ("IPAddress", "named by its address"),
];

fn samples(bench: &Bench) -> Vec<Sample> {
    let kinds = bench.registry.kinds();
    let documents = include_str!("samples.yaml").split("\n---\n");
    let sample = |text: &str| {
        let mut object = yaml::parse(text.as_bytes()).expect("the samples are YAML").value;
        let status = object.as_object_mut().expect("an object").remove("status");
        let status = status.and_then(|status| match status {
            Value::Object(fields) => fields.into_iter().next(),
            _ => None,
        });
        let (version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
        let found = kinds.iter().find(|info| info.gvk.api_version() == version && info.gvk.kind == kind);
        let kind = found.unwrap_or_else(|| panic!("no kind {version} {kind}")).clone();
        let part = if object.get("spec").is_some() { "spec" } else { "metadata" };
        Sample { kind, object, part, status }
    };
    documents.map(sample).collect()
}

#[tokio::test]
async fn every_kind_passes_the_table() {
    let bench = Bench::new(corten_api::kinds());
    let samples = samples(&bench);
    for kind in bench.registry.kinds().iter().filter(|kind| !kind.storage_prefix.is_empty()) {
        let sampled = samples.iter().any(|sample| sample.kind.gvk == kind.gvk);
        let excused = WITHOUT.iter().any(|(name, _)| *name == kind.gvk.kind);
        assert!(sampled || excused, "{} needs a sample", kind.gvk);
    }
    for sample in samples {
        // Versions of one resource share their objects, so each gets a store of its own.
        let bench = Bench::new(corten_api::kinds());
        around_services(&bench.registry);
        table::all(&bench.registry, &sample).await;
    }
}
