//! Options of list and watch, checked against each other with upstream's texts
//! (`k8s.io/apimachinery/pkg/apis/meta/internalversion/validation`), and continue tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::json;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_store::Revision;

use super::{ListOptions, RevisionMatch};
use crate::cache::PAGE_AGE_MS_MAX;

const META: &str = "meta.k8s.io";

/// The version of continue tokens; upstream's, so that tokens look alike.
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// The revision of a token that goes on at the newest state, without consistency.
const INCONSISTENT: i64 = -1;

/// Refuses combinations that a list cannot serve.
pub(super) fn check_list(options: &ListOptions) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let path = FieldPath::new("resourceVersionMatch");
    if let Some(revision_match) = options.revision_match {
        if options.resource_version.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !options.continue_token.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if revision_match == RevisionMatch::Exact && options.resource_version == "0" {
            errors.forbidden(&path, r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#);
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden(&FieldPath::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    refuse(&errors)
}

/// Refuses combinations that a watch cannot serve.
pub(super) fn check_watch(options: &ListOptions) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let path = FieldPath::new("resourceVersionMatch");
    let not_older = options.revision_match == Some(RevisionMatch::NotOlderThan);
    if options.send_initial_events.is_some() && !not_older {
        errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if let Some(revision_match) = options.revision_match {
        if options.send_initial_events.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.forbidden(&path, detail);
        }
        if revision_match == RevisionMatch::Exact {
            errors.not_supported(&path, "Exact", &["NotOlderThan"]);
        }
        if !options.continue_token.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    }
    refuse(&errors)
}

fn refuse(errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(META, "ListOptions", "", errors)) }
}

/// A `resourceVersion` of a request: `None` for `""`, 0 for "any".
pub(super) fn parse_revision(text: &str) -> Result<Option<Revision>, Status> {
    revision(text).map_err(|errors| Status::invalid("", "", "", &errors))
}

/// The same for a list, which upstream refuses in other words.
pub(super) fn parse_list_revision(text: &str) -> Result<Option<Revision>, Status> {
    revision(text).map_err(|errors| Status::bad_request(format!("invalid resource version: {errors}")))
}

/// The same for a watch.
pub(super) fn parse_watch_revision(text: &str) -> Result<Option<Revision>, Status> {
    revision(text).map_err(|errors| Status {
        code: 500,
        reason: "",
        message: errors.to_string(),
        details: None,
        continue_token: None,
    })
}

fn revision(text: &str) -> Result<Option<Revision>, FieldErrors> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let why = if text.bytes().all(|byte| byte.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
        let mut errors = FieldErrors::default();
        let detail = format!("strconv.ParseUint: parsing {text:?}: {why}");
        errors.invalid(&FieldPath::new("resourceVersion"), text, detail);
        errors
    })
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The revision that all pages show; `None`: the newest, whatever the pages before showed.
    pub(super) revision: Option<Revision>,
    /// The smallest key that is still to be listed, below the namespace's prefix.
    pub(super) start: Str,
    /// When the first page was shown, in Unix seconds; 0 where that is not known.
    pub(super) began_s: i64,
}

impl Position {
    /// Whether its list is continued no more.
    pub(super) fn is_old(&self, now_s: i64) -> bool {
        self.began_s > 0 && now_s - self.began_s > PAGE_AGE_MS_MAX / 1000
    }

    pub(super) fn encode(&self) -> String {
        let revision = self.revision.map_or(INCONSISTENT, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let start = self.start.clone();
        let token = value!({"v": TOKEN_VERSION, "rv": revision, "start": start, "began": (self.began_s)});
        URL_SAFE_NO_PAD.encode(json::to_vec(&token))
    }

    pub(super) fn decode(token: &str) -> Result<Self, Status> {
        let not_valid =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| not_valid(&format!(": {error}")))?;
        let token = json::parse(&bytes).map_err(|error| not_valid(&format!(": {error}")))?.value;
        if token.str_at(&["v"]) != TOKEN_VERSION {
            let version = token.str_at(&["v"]);
            return Err(not_valid(&format!(": server does not recognize this encoded version {version}")));
        }
        let start = token.str_at(&["start"]);
        if start.is_empty() {
            return Err(not_valid(": encoded start key empty (version meta.k8s.io/v1)"));
        }
        if start.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(not_valid(&format!(": {start}")));
        }
        let revision = match token.get("rv").and_then(Value::as_i64) {
            None | Some(0) => {
                return Err(not_valid(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
            }
            Some(revision) => Revision::try_from(revision).ok(),
        };
        let began_s = token.get("began").and_then(Value::as_i64).unwrap_or_default();
        Ok(Self { revision, start: start.into(), began_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        for revision in [Some(7), None] {
            let position = Position { revision, start: "a/b\0".into(), began_s: 5 };
            assert_eq!(Position::decode(&position.encode()).unwrap(), position);
        }
        let upstream = URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v1","rv":3,"start":"x\u0000"}"#);
        let plain = Position { revision: Some(3), start: "x\0".into(), began_s: 0 };
        assert_eq!(Position::decode(&upstream).unwrap(), plain);
        for bad in ["!", "e30", &URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v1","rv":3,"start":"../x"}"#)] {
            let refused = Position::decode(bad).unwrap_err();
            assert_eq!(
                (refused.code, refused.message.starts_with("invalid continue token: continue key is not valid")),
                (400, true),
                "{bad}"
            );
        }
    }

    #[test]
    fn combinations() {
        let check = |options: ListOptions, list: &str, watch: &str| {
            let text = |result: Result<(), Status>| result.err().map(|status| status.message).unwrap_or_default();
            assert_eq!(text(check_list(&options)), list, "list with {options:?}");
            assert_eq!(text(check_watch(&options)), watch, "watch with {options:?}");
        };
        let prefix = r#"ListOptions.meta.k8s.io "" is invalid: "#;
        let exact = ListOptions { revision_match: Some(RevisionMatch::Exact), ..ListOptions::default() };
        check(
            exact,
            &format!(
                "{prefix}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
            ),
            &format!(
                "{prefix}[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
            ),
        );
        let initial = ListOptions { send_initial_events: Some(true), ..ListOptions::default() };
        check(
            initial,
            &format!("{prefix}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
            &format!(
                "{prefix}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            ),
        );
        check(ListOptions::default(), "", "");
    }

    #[test]
    fn a_bad_revision_is_refused_in_each_verbs_words() {
        let detail = r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#;
        let said = |refused: Result<Option<Revision>, Status>| refused.map_err(|status| (status.code, status.message));
        let list = format!("invalid resource version: {detail}");
        assert_eq!(said(parse_list_revision("x")), Err((400, list)));
        assert_eq!(said(parse_watch_revision("x")), Err((500, detail.to_owned())));
        assert_eq!(said(parse_revision("x")).map_err(|(code, _)| code), Err(422));
        assert_eq!(parse_list_revision("7"), Ok(Some(7)));
    }
}
