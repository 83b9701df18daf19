//! What a webhook is sent and what it answers: `AdmissionReview` of `admission.k8s.io/v1`, or v1beta1 where it knows no
//! other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::json;
use corten_apimachinery::kind::GroupVersionKind;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};

use super::hook::ReviewVersion;

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

impl ReviewVersion {
    fn kind(self) -> GroupVersionKind {
        let version = match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        };
        GroupVersionKind::new(GROUP, version, KIND)
    }
}

/// The review as it is sent. The objects are written where they stand: they may be large.
pub(super) fn encode(version: ReviewVersion, head: &Value, object: &Value, old: &Value) -> Vec<u8> {
    let kind = version.kind();
    let mut out = format!(r#"{{"kind":"{KIND}","apiVersion":"{}","request":"#, kind.api_version()).into_bytes();
    json::write(head, &mut out);
    out.pop();
    for (key, value) in [("object", object), ("oldObject", old)] {
        out.extend_from_slice(format!(r#","{key}":"#).as_bytes());
        json::write(value, &mut out);
    }
    out.extend_from_slice(b"}}");
    out
}

/// What a webhook has answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// The refusal, as far as it says something of it.
    pub(super) result: Value,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    pub(super) patch_type: String,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads an answer, or says what is wrong with it, as upstream does.
pub(super) fn decode(review: &Value, version: ReviewVersion, uid: &str, mutating: bool) -> Result<Answer, String> {
    let Some(response) = review.get("response").filter(|response| response.as_object().is_some()) else {
        return Err("webhook response was absent".to_owned());
    };
    let patch = match response.str_at(&["patch"]) {
        "" => None,
        text => Some(STANDARD.decode(text).map_err(|error| format!("response.patch is no base64: {error}"))?),
    };
    let mut patch_type = response.get("patchType").and_then(Value::as_str).map(str::to_owned);
    if version == ReviewVersion::V1 {
        let sent = response.str_at(&["uid"]);
        if sent != uid {
            return Err(format!("expected response.uid={uid:?}, got {sent:?}"));
        }
        let own = GroupVersionKind::from_api_version(review.str_at(&["apiVersion"]), review.str_at(&["kind"]));
        if own != version.kind() {
            let [wanted, own] = [version.kind(), own].map(|gvk| told(&gvk));
            return Err(format!("expected webhook response of {wanted}, got {own}"));
        }
        check_patch(patch.is_some(), patch_type.as_deref(), mutating)?;
    } else if patch.is_some() {
        patch_type = Some("JSONPatch".to_owned());
    }
    let list = |field: &str| response.get(field).and_then(Value::as_array).unwrap_or_default();
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    let texts = annotations.into_iter().flat_map(Map::iter);
    Ok(Answer {
        allowed: response.get("allowed").and_then(Value::as_bool).unwrap_or_default(),
        result: response.get("status").cloned().unwrap_or_default(),
        patch: patch.filter(|_| mutating),
        patch_type: patch_type.unwrap_or_default(),
        warnings: list("warnings").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        annotations: texts.filter_map(|(key, text)| Some((key.to_string(), text.as_str()?.to_owned()))).collect(),
    })
}

/// As Go prints it; an absent group leaves the slash.
fn told(gvk: &GroupVersionKind) -> String {
    format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind)
}

fn check_patch(patch: bool, patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch, patch_type) {
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, true, _) => "validating webhook may not return response.patch",
        (false, false, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The refusal that a client gets.
pub(super) fn refusal(webhook: &str, result: &Value) -> Status {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (result.str_at(&["message"]), result.str_at(&["reason"])) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let mut object = result.as_object().cloned().unwrap_or_default();
    object.insert("kind", "Status");
    let mut status = Status::from_value(&Value::Object(object)).unwrap_or_else(|| Status::bad_request(""));
    status.code = status.code.max(400);
    status.message = message;
    status
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(review: Value, version: ReviewVersion, mutating: bool, expect: Result<Answer, &str>) {
        assert_eq!(decode(&review, version, "u", mutating), expect.map_err(str::to_owned), "{review:?}");
    }

    fn v1(response: Value) -> Value {
        value!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn answers_are_verified() {
        let yes = || Answer { allowed: true, ..Answer::default() };
        check(v1(value!({"uid": "u", "allowed": true})), ReviewVersion::V1, false, Ok(yes()));
        check(value!({}), ReviewVersion::V1, false, Err("webhook response was absent"));
        check(
            v1(value!({"uid": "x", "allowed": true})),
            ReviewVersion::V1,
            false,
            Err("expected response.uid=\"u\", got \"x\""),
        );
        check(
            value!({"response": {"uid": "u", "allowed": true}}),
            ReviewVersion::V1,
            false,
            Err("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
        );
        check(value!({"response": {"allowed": true}}), ReviewVersion::V1Beta1, false, Ok(yes()));
        let patched = || value!({"uid": "u", "allowed": true, "patch": "W10="});
        check(
            v1(patched()),
            ReviewVersion::V1,
            true,
            Err("webhook returned response.patch but not response.patchType"),
        );
        check(v1(patched()), ReviewVersion::V1, false, Err("validating webhook may not return response.patch"));
        let answer = Answer { patch: Some(b"[]".to_vec()), patch_type: "JSONPatch".to_owned(), ..yes() };
        check(value!({"response": (patched())}), ReviewVersion::V1Beta1, true, Ok(answer));
        check(
            v1(value!({"uid": "u", "allowed": true, "patchType": "JSONPatch"})),
            ReviewVersion::V1,
            false,
            Err("validating webhook may not return response.patchType"),
        );
    }

    #[test]
    fn refusals_say_who_denied() {
        let check = |result: Value, code: u16, reason: &str, message: &str| {
            let status = refusal("a.example.com", &result);
            assert_eq!((status.code, status.reason, status.message.as_str()), (code, reason, message));
        };
        let denied = "admission webhook \"a.example.com\" denied the request";
        check(Value::Null, 400, "", &format!("{denied} without explanation"));
        check(
            value!({"message": "no", "code": 403, "reason": "Forbidden"}),
            403,
            "Forbidden",
            &format!("{denied}: no"),
        );
        check(value!({"reason": "NotFound", "code": 200}), 400, "NotFound", &format!("{denied}: NotFound"));
    }
}
