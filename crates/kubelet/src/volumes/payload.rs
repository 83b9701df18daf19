//! The files of a volume that comes from objects: configMap, secret, downwardAPI, projected. Pure.

use std::collections::BTreeMap;

use corten_apimachinery::value::Value;

use super::atomic::{File, Payload};
use crate::fields::Subject;
use crate::pod::Pod;
use crate::sources::{Kind, SourceError, Sources, is_optional};

const MODE: i64 = 0o644;

/// What a service account token is for, and for how many seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    pub audience: String,
    pub expiration_s: i64,
}

pub type Tokens = BTreeMap<TokenKey, String>;

/// The tokens that a pod's volumes show.
pub fn token_keys(pod: Pod<'_>) -> Vec<TokenKey> {
    let volumes = pod.spec_list("volumes").iter();
    let sources =
        volumes.flat_map(|volume| volume.at(&["projected", "sources"]).and_then(Value::as_array).unwrap_or_default());
    sources.filter_map(|source| source.get("serviceAccountToken")).map(token_key).collect()
}

fn token_key(source: &Value) -> TokenKey {
    TokenKey {
        audience: source.str_at(&["audience"]).to_owned(),
        expiration_s: source.i64_at(&["expirationSeconds"]).unwrap_or(3600),
    }
}

/// The user of all containers, if they have the same one: the tokens' files are that user's alone.
pub fn fs_user(pod: Pod<'_>) -> Option<u32> {
    let mut users = pod.containers().map(|container| container.security(pod, "runAsUser").and_then(Value::as_i64));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

pub(super) fn payload(
    subject: Subject<'_>,
    sources: &Sources,
    tokens: &Tokens,
    volume: &Value,
) -> Result<Payload, SourceError> {
    let given = |field: &str| volume.get(field).filter(|source| !source.is_null());
    let mode = |source: &Value| source.i64_at(&["defaultMode"]).unwrap_or(MODE);
    let mut files = Payload::new();
    if let Some(source) = given("configMap") {
        of_object(Kind::ConfigMap, source.str_at(&["name"]), source, sources, mode(source), &mut files)?;
    } else if let Some(source) = given("secret") {
        of_object(Kind::Secret, source.str_at(&["secretName"]), source, sources, mode(source), &mut files)?;
    } else if let Some(source) = given("downwardAPI") {
        of_fields(subject, source, mode(source), &mut files)?;
    } else if let Some(projected) = given("projected") {
        let mode = mode(projected);
        for source in projected.get("sources").and_then(Value::as_array).unwrap_or_default() {
            of_projection(subject, sources, tokens, source, mode, &mut files)?;
        }
    }
    Ok(files)
}

fn of_projection(
    subject: Subject<'_>,
    sources: &Sources,
    tokens: &Tokens,
    source: &Value,
    mode: i64,
    files: &mut Payload,
) -> Result<(), SourceError> {
    let given = |field: &str| source.get(field).filter(|source| !source.is_null());
    if let Some(source) = given("configMap") {
        of_object(Kind::ConfigMap, source.str_at(&["name"]), source, sources, mode, files)
    } else if let Some(source) = given("secret") {
        of_object(Kind::Secret, source.str_at(&["name"]), source, sources, mode, files)
    } else if let Some(source) = given("downwardAPI") {
        of_fields(subject, source, mode, files)
    } else if let Some(source) = given("serviceAccountToken") {
        let token = tokens.get(&token_key(source));
        let token = token.ok_or_else(|| SourceError::Field("the service account token is not there yet".to_owned()))?;
        let uid = fs_user(subject.pod);
        let private = uid.is_some() || subject.pod.security("fsGroup").is_some_and(|group| !group.is_null());
        let mode = if private { 0o600 } else { mode };
        let path = source.str_at(&["path"]);
        put(files, path, token.as_bytes().to_vec(), mode, uid)
    } else {
        let kind = source.as_object().and_then(|map| map.keys().next()).map_or("", |kind| kind.as_str());
        Err(SourceError::Field(format!("projected volumes of {kind} are not supported by this node")))
    }
}

fn of_object(
    kind: Kind,
    name: &str,
    source: &Value,
    sources: &Sources,
    mode: i64,
    files: &mut Payload,
) -> Result<(), SourceError> {
    let optional = is_optional(source);
    let Some(object) = sources.object(kind, name, optional)? else { return Ok(()) };
    let mut data = Sources::data(kind, object)?;
    let items = source.get("items").and_then(Value::as_array).unwrap_or_default();
    if items.is_empty() {
        for (key, bytes) in data {
            put(files, &key, bytes, mode, None)?;
        }
        return Ok(());
    }
    for item in items {
        let key = item.str_at(&["key"]);
        match data.remove(key) {
            Some(bytes) => {
                let mode = item.i64_at(&["mode"]).unwrap_or(mode);
                put(files, item.str_at(&["path"]), bytes.clone(), mode, None)?;
                // Two items may show the same key.
                data.insert(key.to_owned(), bytes);
            }
            None if optional => {}
            None => return Err(SourceError::Item(key.to_owned())),
        }
    }
    Ok(())
}

fn of_fields(subject: Subject<'_>, source: &Value, mode: i64, files: &mut Payload) -> Result<(), SourceError> {
    for item in source.get("items").and_then(Value::as_array).unwrap_or_default() {
        let text = match item.get("fieldRef").filter(|reference| !reference.is_null()) {
            Some(reference) => subject.field(reference.str_at(&["fieldPath"]))?,
            None => subject.resource(item.get("resourceFieldRef").unwrap_or(&Value::Null), None)?,
        };
        let mode = item.i64_at(&["mode"]).unwrap_or(mode);
        put(files, item.str_at(&["path"]), text.into_bytes(), mode, None)?;
    }
    Ok(())
}

fn put(files: &mut Payload, path: &str, bytes: Vec<u8>, mode: i64, uid: Option<u32>) -> Result<(), SourceError> {
    let path = path.trim_start_matches("./");
    // The API server refuses such paths; a file outside the volume would be the node's own.
    let stays = !path.is_empty() && path.split('/').all(|part| !part.is_empty() && !part.starts_with(".."));
    if !stays {
        return Err(SourceError::Field(format!("the path {path:?} leaves the volume")));
    }
    let mode = u32::try_from(mode).unwrap_or_default() & 0o777;
    files.insert(path.to_owned(), File { bytes, mode, uid });
    Ok(())
}
