//! Patches: an object and a patch, two texts of JSON with a zero byte between them. Whatever the patch is, the answer is an
//! object or an error.

use corten_apimachinery::json;
use corten_apimachinery::patch::json::JsonPatch;
use corten_apimachinery::patch::{merge, strategic};
use corten_apimachinery::schema::ObjectSchema as _;
use corten_apimachinery::value::Value;

pub(crate) fn all(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(object), Ok(patch)) = (json::parse(&bytes[..at]), json::parse(&bytes[at + 1..])) else { return };
    let (object, patch) = (object.value, patch.value);
    if let Ok(decoded) = JsonPatch::decode(patch.clone())
        && let Ok(patched) = decoded.apply(&object)
    {
        written(&patched);
    }
    let mut merged = object.clone();
    if merge::apply(&mut merged, patch.clone()).is_ok() {
        let mut twice = merged.clone();
        merge::apply(&mut twice, patch.clone()).expect("it fitted before");
        assert_eq!(json::to_string(&twice), json::to_string(&merged), "a merge patch twice is one once");
    }
    let schema = corten_api::schema("v1", "Pod").expect("a kind of upstream's");
    if let Ok(patched) = strategic::apply(&object, patch, schema.node()) {
        written(&patched);
    }
}

/// It can be stored and read.
fn written(value: &Value) {
    let text = json::to_vec(value);
    if let Ok(again) = json::parse(&text) {
        assert_eq!(json::to_vec(&again.value), text);
    }
}
