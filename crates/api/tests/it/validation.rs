//! What is refused, and how: objects go the way of a request, through decoding and defaults, and meet their kind's rules.
//! The texts are those of kube-apiserver 1.36.3.

mod batch;
mod cluster;
mod networking;
mod rbac;
mod workloads;

use corten_apimachinery::json;
use corten_apimachinery::kind::{KindInfo, Validation};
use corten_apimachinery::value::Value;

fn kind(api_version: &str, kind: &str) -> &'static KindInfo {
    static KINDS: std::sync::LazyLock<Vec<KindInfo>> = std::sync::LazyLock::new(corten_api::kinds);
    let found = KINDS.iter().find(|info| info.gvk.api_version() == api_version && info.gvk.kind == kind);
    found.unwrap_or_else(|| panic!("no {api_version} {kind}"))
}

/// As a request's body is read.
fn read(info: &KindInfo, text: &str) -> Value {
    let parsed = json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}")).value;
    let mut conformed = info.schema.conform(parsed).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(conformed.unknown, [""; 0], "{text}");
    info.schema.default(&mut conformed.value);
    conformed.value
}

#[track_caller]
fn validate(info: &KindInfo, new: &str, old: Option<&str>, subresource: &str, expect: &[&str]) {
    let (new, old) = (read(info, new), old.map(|old| read(info, old)));
    let errors = info.validate(Validation { object: &new, old: old.as_ref(), subresource });
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expect, "{}", json::to_string(&new));
}

/// A text with one part put in another's place, which must be there.
#[track_caller]
fn with(text: &str, part: &str, instead: &str) -> String {
    assert!(text.contains(part), "no {part} in {text}");
    text.replacen(part, instead, 1)
}
