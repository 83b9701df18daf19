//! What the server sets, keeps and clears in an object's metadata, whatever its kind.

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::meta::metadata_mut;
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

/// Letters of generated names: no vowels, no look-alikes, as upstream.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest generated name.
const GENERATED_NAME_MAX: usize = 63;

/// Fields that only the server sets; a create request's are dropped.
const SYSTEM_FIELDS: [&str; 5] =
    ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

pub(super) fn clear_system_fields(value: &mut Value) {
    let metadata = metadata_mut(value);
    for field in SYSTEM_FIELDS {
        metadata.remove(field);
    }
}

/// Identity and age of a new object.
pub(super) fn set_system_fields(value: &mut Value, clock: &Clock, random: &Random) {
    let metadata = metadata_mut(value);
    metadata.insert("uid", random.uuid());
    metadata.insert("creationTimestamp", Time::from_seconds(clock.now_s()).to_rfc3339());
}

/// What an update may not change is as stored; its UID may be left out.
pub(super) fn keep_system_fields(new: &mut Value, old: &Value) {
    let stored = |field: &str| old.at(&["metadata", field]).filter(|value| !value.is_null()).cloned();
    let metadata = metadata_mut(new);
    for field in ["generation", "creationTimestamp", "deletionTimestamp"] {
        match stored(field) {
            Some(value) => metadata.insert(field, value),
            None if field == "generation" => metadata.remove(field),
            None => None,
        };
    }
    for field in ["uid", "deletionGracePeriodSeconds"] {
        let absent = metadata.get(field).is_none_or(|value| value.is_null() || value.as_str() == Some(""));
        if let Some(value) = stored(field).filter(|_| absent) {
            metadata.insert(field, value);
        }
    }
}

/// What users say about an object stays as stored.
pub(super) fn keep_user_fields(new: &mut Value, old: &Value) {
    let metadata = metadata_mut(new);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        match old.at(&["metadata", field]) {
            Some(value) => metadata.insert(field, value.clone()),
            None => metadata.remove(field),
        };
    }
}

/// A name out of `metadata.generateName`, if that is what the object asks for.
pub(super) fn generate_name(value: &mut Value, random: &Random) -> bool {
    let metadata = metadata_mut(value);
    let has = |key: &str| metadata.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if has("name") || !has("generateName") {
        return false;
    }
    let base = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
    let mut cut = base.len().min(GENERATED_NAME_MAX - SUFFIX_LENGTH);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_owned();
    name.push_str(&name_suffix(random));
    metadata.insert("name", name);
    true
}

/// What is put behind a prefix to make a name that nobody has: five letters that form no words.
pub fn name_suffix(random: &Random) -> String {
    let letter = |_| {
        let letter = random.next_u64() % SUFFIX_LETTERS.len() as u64;
        char::from(SUFFIX_LETTERS[usize::try_from(letter).expect("below the number of letters")])
    };
    (0..SUFFIX_LENGTH).map(letter).collect()
}

/// The namespace of the URL is the object's; one in the body must be the same.
pub(super) fn settle_namespace(kind: &KindInfo, namespace: &str, value: &mut Value) -> Result<(), Status> {
    let expected = if kind.namespaced() { namespace } else { "" };
    let metadata = metadata_mut(value);
    let own = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if own == expected {
        return Ok(());
    }
    if own.is_empty() {
        metadata.insert("namespace", expected);
    } else if expected.is_empty() {
        metadata.remove("namespace");
    } else {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Drops owner references that are there twice; the warning that names them, if any.
pub(super) fn dedup_owners(value: &mut Value, after_admission: bool) -> Option<String> {
    let owners = value.at_mut(&["metadata", "ownerReferences"])?.as_array_mut()?;
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut doubles: Vec<Str> = Vec::new();
    for owner in owners.drain(..) {
        match kept.contains(&owner) {
            true => doubles.push(owner.str_at(&["uid"]).into()),
            false => kept.push(owner),
        }
    }
    *owners = kept;
    let when = if after_admission { " after mutating admission happens" } else { "" };
    (!doubles.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, \
             and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            doubles.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn generates_names_of_bounded_length() {
        let random = Random::seeded(1);
        let name_of = |base: &str| {
            let mut value = value!({"metadata": {"generateName": base}});
            assert!(generate_name(&mut value, &random));
            value.str_at(&["metadata", "name"]).to_owned()
        };
        let name = name_of("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert!(name[4..].bytes().all(|letter| SUFFIX_LETTERS.contains(&letter)), "{name}");
        assert_ne!(name, name_of("web-"));
        assert_eq!(name_of(&"x".repeat(200)).len(), GENERATED_NAME_MAX);
        let mut named = value!({"metadata": {"generateName": "a-", "name": "b"}});
        assert!(!generate_name(&mut named, &random));
        assert_eq!(named.str_at(&["metadata", "name"]), "b");
    }

    #[test]
    fn doubled_owners_go() {
        let mut value = value!({"metadata": {"ownerReferences": [{"uid": "a"}, {"uid": "b"}, {"uid": "a"}]}});
        let warning = dedup_owners(&mut value, false).unwrap();
        assert!(warning.ends_with("duplicate UID(s) observed: a"), "{warning}");
        assert_eq!(value.at(&["metadata", "ownerReferences"]).unwrap().as_array().unwrap().len(), 2);
        assert_eq!(dedup_owners(&mut value, false), None);
    }
}
