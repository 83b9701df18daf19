//! The query of a request: percent-decoding and the option structs that it carries, with upstream's refusals.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Propagation;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};

use crate::registry::json_type;
use crate::registry::{DeleteOptions, FieldValidation, ListOptions, RevisionMatch, Sent, WriteOptions};

/// Longest name of a field manager, in bytes.
const MANAGER_BYTES_MAX: usize = 128;

/// Decoded pairs in their order; keys may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        Self(
            pairs
                .filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decode(key)?, decode(value)?))
                })
                .collect(),
        )
    }

    /// The first value of a key.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Upstream's reading of a flag: present means true, unless its value is `0` or `false`.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    fn optional_flag(&self, key: &str) -> Option<bool> {
        self.first(key).map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.first(key) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(error) => {
                let why = match error.kind() {
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}")))
            }
        }
    }
}

/// Decodes `%XX`; `None` where an escape is broken or the result is no UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
            let (high, low) = (digit(bytes.get(at + 1))?, digit(bytes.get(at + 2))?);
            out.push(u8::try_from(high * 16 + low).expect("two hex digits fit a byte"));
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// The options of list, watch and deletecollection. `watch` tells which rules hold.
pub fn list_options(query: &Query, watch: bool) -> Result<ListOptions, Status> {
    let text = |key| query.first(key).unwrap_or_default().to_owned();
    let mut errors = FieldErrors::default();
    let revision_match = revision_match(query, watch, &mut errors);
    let limit = query.integer("limit")?.unwrap_or(0);
    let timeout_s = query.integer("timeoutSeconds")?;
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    Ok(ListOptions {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        resource_version: text("resourceVersion"),
        revision_match,
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token: text("continue"),
        allow_bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events: query.optional_flag("sendInitialEvents"),
        timeout_s: timeout_s.and_then(|seconds| u64::try_from(seconds).ok()),
    })
}

/// Reads `resourceVersionMatch` and checks it against the other options, as upstream's `ValidateListOptions`.
fn revision_match(query: &Query, watch: bool, errors: &mut FieldErrors) -> Option<RevisionMatch> {
    let asked = query.first("resourceVersionMatch").unwrap_or_default();
    let path = FieldPath::new("resourceVersionMatch");
    let continued = !query.first("continue").unwrap_or_default().is_empty();
    let initial = query.optional_flag("sendInitialEvents");
    if watch {
        if initial.is_some() && asked != "NotOlderThan" {
            errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if !asked.is_empty() {
            if initial.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.forbidden(&path, why);
            }
            if asked != "NotOlderThan" {
                errors.not_supported(&path, asked, &["NotOlderThan"]);
            }
        }
    } else if !asked.is_empty() {
        let revision = query.first("resourceVersion").unwrap_or_default();
        if revision.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.forbidden(&path, why);
        }
        if continued {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if asked != "Exact" && asked != "NotOlderThan" {
            errors.not_supported(&path, asked, &["Exact", "NotOlderThan", ""]);
        }
        if asked == "Exact" && revision == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.forbidden(&path, why);
        }
    }
    if watch && !asked.is_empty() && continued {
        errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
    }
    if !watch && initial.is_some() {
        errors.forbidden(&FieldPath::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    match asked {
        "Exact" => Some(RevisionMatch::Exact),
        "NotOlderThan" => Some(RevisionMatch::NotOlderThan),
        _ => None,
    }
}

/// What a write asks for.
#[derive(Clone, Debug, Default)]
pub struct Write {
    pub options: WriteOptions,
    pub sent: Sent,
}

/// Which option struct a write's query fills, for the names in refusals and the rules of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    Create,
    Update,
    Patch,
    Apply,
}

/// The options of create, update, patch and apply.
pub fn write_options(query: &Query, kind: WriteKind) -> Result<Write, Status> {
    let mut errors = FieldErrors::default();
    let manager = query.first("fieldManager").unwrap_or_default();
    match kind {
        WriteKind::Apply if manager.is_empty() => {
            errors.required(&FieldPath::new("fieldManager"), "is required for apply patch");
        }
        WriteKind::Patch if query.first("force").is_some() => {
            errors.forbidden(&FieldPath::new("force"), "may not be specified for non-apply patch");
        }
        _ => {}
    }
    check_manager(manager, &mut errors);
    let dry_run = dry_run(&query.all("dryRun").map(Value::from).collect::<Vec<_>>(), &mut errors);
    let validation = query.first("fieldValidation").unwrap_or_default();
    let field_validation = field_validation(validation, &mut errors);
    if !errors.is_empty() {
        let name = match kind {
            WriteKind::Create => "CreateOptions",
            WriteKind::Update => "UpdateOptions",
            WriteKind::Patch | WriteKind::Apply => "PatchOptions",
        };
        return Err(Status::invalid("meta.k8s.io", name, "", &errors));
    }
    let options = WriteOptions { dry_run, field_validation, force: query.flag("force") };
    Ok(Write { options, sent: Sent { field_manager: manager.into(), field_validation: validation.into() } })
}

fn check_manager(manager: &str, errors: &mut FieldErrors) {
    let path = FieldPath::new("fieldManager");
    if manager.len() > MANAGER_BYTES_MAX {
        errors.too_long(&path, MANAGER_BYTES_MAX);
    }
    for (at, character) in manager.char_indices().filter(|(_, character)| character.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        errors.invalid(&path, manager, why);
    }
}

fn dry_run(values: &[Value], errors: &mut FieldErrors) -> bool {
    if values.iter().any(|value| value.as_str() != Some("All")) {
        errors.not_supported(&FieldPath::new("dryRun"), Value::Array(values.to_vec()), &["All"]);
    }
    !values.is_empty()
}

fn field_validation(text: &str, errors: &mut FieldErrors) -> FieldValidation {
    match text {
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        "" | "Warn" => FieldValidation::Warn,
        _ => {
            let path = FieldPath::new("fieldValidation");
            errors.not_supported(&path, text, &["", "Ignore", "Strict", "Warn"]);
            FieldValidation::Warn
        }
    }
}

/// `DeleteOptions` of a request without a body.
pub fn delete_options(query: &Query) -> Result<DeleteOptions, Status> {
    let mut body = corten_apimachinery::value::Map::new();
    if let Some(seconds) = query.integer("gracePeriodSeconds")? {
        body.insert("gracePeriodSeconds", seconds);
    }
    if let Some(orphan) = query.optional_flag("orphanDependents") {
        body.insert("orphanDependents", orphan);
    }
    if let Some(policy) = query.first("propagationPolicy") {
        body.insert("propagationPolicy", policy);
    }
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if !dry_run.is_empty() {
        body.insert("dryRun", dry_run);
    }
    delete_options_of(&Value::Object(body))
}

/// Fields of `DeleteOptions`, what they hold, and what Go calls that.
const DELETE_FIELDS: [(&str, fn(&Value) -> bool, &str); 5] = [
    ("gracePeriodSeconds", |value| matches!(value, Value::Int(_)), "int64"),
    ("preconditions", |value| value.as_object().is_some(), "v1.Preconditions"),
    ("orphanDependents", |value| value.as_bool().is_some(), "bool"),
    ("propagationPolicy", |value| value.as_str().is_some(), "v1.DeletionPropagation"),
    ("dryRun", |value| value.as_array().is_some(), "[]string"),
];

/// `DeleteOptions` of a decoded body.
pub fn delete_options_of(body: &Value) -> Result<DeleteOptions, Status> {
    for (field, fits, go_type) in DELETE_FIELDS {
        if let Some(value) = body.get(field).filter(|value| !value.is_null() && !fits(value)) {
            let found = json_type(value);
            return Err(Status::bad_request(format!(
                "json: cannot unmarshal {found} into Go struct field DeleteOptions.{field} of type {go_type}"
            )));
        }
    }
    let mut errors = FieldErrors::default();
    let orphan = body.get("orphanDependents").and_then(Value::as_bool);
    let policy = body.get("propagationPolicy").and_then(Value::as_str);
    let path = FieldPath::new("propagationPolicy");
    if let (Some(_), Some(policy)) = (orphan, policy) {
        errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
    }
    let propagation = match policy {
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            errors.not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]);
            None
        }
        None => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
    };
    let dry_run = dry_run(body.get("dryRun").and_then(Value::as_array).unwrap_or_default(), &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
    }
    let precondition = |key| body.at(&["preconditions", key]).and_then(Value::as_str).map(Str::from);
    Ok(DeleteOptions {
        dry_run,
        grace_period_s: body.get("gracePeriodSeconds").and_then(Value::as_i64),
        propagation,
        precondition_uid: precondition("uid"),
        precondition_revision: precondition("resourceVersion"),
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn decodes_pairs() {
        let query = Query::parse("a=1&b=x%20y+z&a=2&c&bad=%zz&%41=ok");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.first("b"), Some("x y z"));
        assert_eq!(query.first("c"), Some(""));
        assert_eq!(query.first("bad"), None);
        assert_eq!(query.first("A"), Some("ok"));
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: u16, message: &str) {
        let status = result.unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }

    #[test]
    fn list_refusals() {
        refused(list_options(&Query::parse("limit=x"), false), 400, "strconv.ParseInt: parsing \"x\": invalid syntax");
        refused(
            list_options(&Query::parse("sendInitialEvents=true"), true),
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires \
             setting resourceVersionMatch to NotOlderThan",
        );
        refused(
            list_options(&Query::parse("resourceVersionMatch=Exact&resourceVersion=0"), false),
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" \
             is forbidden for resourceVersion \"0\"",
        );
        refused(
            list_options(&Query::parse("sendInitialEvents=false"), false),
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden \
             for list",
        );
    }

    #[test]
    fn list_options_are_read() {
        let query = Query::parse(
            "labelSelector=a%3Db&limit=5&continue=tok&resourceVersion=7&allowWatchBookmarks=1&timeoutSeconds=9",
        );
        let options = list_options(&query, true).unwrap();
        assert_eq!((options.label_selector.as_str(), options.limit, options.timeout_s), ("a=b", 5, Some(9)));
        assert!(options.allow_bookmarks);
        assert_eq!(options.send_initial_events, None);
    }

    #[test]
    fn write_refusals() {
        refused(
            write_options(&Query::parse("dryRun=Some"), WriteKind::Create),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        );
        refused(
            write_options(&Query::default(), WriteKind::Apply),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        );
        refused(
            write_options(&Query::parse("force=true"), WriteKind::Patch),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        );
        let write = write_options(&Query::parse("dryRun=All&fieldValidation=Strict&fieldManager=m"), WriteKind::Update);
        let write = write.unwrap();
        assert!(write.options.dry_run);
        assert_eq!((write.options.field_validation, write.sent.field_manager.as_str()), (FieldValidation::Strict, "m"));
    }

    #[test]
    fn delete_options_of_a_wrong_type_are_refused() {
        let refused = delete_options_of(&value!({"gracePeriodSeconds": "soon"})).expect_err("refused");
        let text = "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64";
        assert_eq!((refused.code, refused.message.as_str()), (400, text));
        assert!(delete_options_of(&value!({"gracePeriodSeconds": null, "dryRun": ["All"]})).is_ok());
    }

    #[test]
    fn delete_options_from_body_and_query() {
        let body = value!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}});
        let options = delete_options_of(&body).unwrap();
        assert_eq!((options.propagation, options.grace_period_s), (Some(Propagation::Foreground), Some(0)));
        assert_eq!(options.precondition_uid.as_deref(), Some("u"));
        let options = delete_options(&Query::parse("orphanDependents=true&dryRun=All")).unwrap();
        assert_eq!((options.propagation, options.dry_run), (Some(Propagation::Orphan), true));
        refused(
            delete_options(&Query::parse("propagationPolicy=Maybe")),
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Maybe\": supported \
             values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        );
    }
}
