//! Which custom resource definitions may be served: their names must not clash with those of others in the group.
//! Pure: all definitions in, their conditions and accepted names out.

use std::collections::HashSet;

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};

/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What follows for one definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The definition's name.
    pub name: Str,
    /// Its names are its own, so its resources are served.
    pub serve: bool,
    /// The status to write, where it differs from the stored one.
    pub status: Option<Value>,
}

/// Judges all definitions, the oldest first: a name belongs to whoever had it accepted, then to whoever came first.
/// `now` is an RFC 3339 time, for conditions that change.
pub fn judge<'a>(definitions: impl IntoIterator<Item = &'a Value>, now: &str) -> Vec<Verdict> {
    let mut definitions: Vec<&Value> = definitions.into_iter().collect();
    definitions.sort_by_key(|definition| {
        (definition.str_at(&["metadata", "creationTimestamp"]), definition.str_at(&["metadata", "name"]))
    });
    let mut accepted: Vec<Names> =
        definitions.iter().map(|definition| Names::read(definition.at(&["status", "acceptedNames"]))).collect();
    let groups: Vec<&str> = definitions.iter().map(|definition| definition.str_at(&["spec", "group"])).collect();
    let mut verdicts = Vec::with_capacity(definitions.len());
    for (index, definition) in definitions.iter().enumerate() {
        let others = accepted.iter().enumerate();
        let taken = Taken::of(others.filter(|(other, _)| *other != index && groups[*other] == groups[index]));
        let requested = Names::read(definition.at(&["spec", "names"]));
        let (names, conflict) = requested.claim(&accepted[index], &taken);
        accepted[index] = names;
        verdicts.push(verdict(definition, &accepted[index], conflict, now));
    }
    verdicts
}

fn verdict(definition: &Value, names: &Names, conflict: Option<Conflict>, now: &str) -> Verdict {
    let serve = conflict.is_none() || is_true(definition, "Established");
    let mut status = definition.get("status").cloned().unwrap_or_else(Value::object);
    let (state, reason, message) = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some(conflict) => ("False", conflict.reason, conflict.message()),
    };
    set_condition(&mut status, "NamesAccepted", state, reason, &message, now);
    if serve {
        set_condition(
            &mut status,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
            now,
        );
    } else {
        set_condition(&mut status, "Established", "False", "NotAccepted", "not all names are accepted", now);
    }
    let map = status.as_object_mut().expect("made an object above");
    map.insert("acceptedNames", names.to_value());
    let changed = definition.get("status") != Some(&status);
    Verdict { name: definition.str_at(&["metadata", "name"]).into(), serve, status: changed.then_some(status) }
}

/// Whether a condition of a definition has the status `True`.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let conditions = definition.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().any(|have| have.str_at(&["type"]) == condition && have.str_at(&["status"]) == "True")
}

/// Sets a condition; its transition time moves only when its status does.
pub fn set_condition(status: &mut Value, kind: &str, state: &str, reason: &str, message: &str, now: &str) {
    if !matches!(status.get("conditions"), Some(Value::Array(_))) {
        status.as_object_mut().expect("a status is an object").insert("conditions", Vec::<Value>::new());
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut).expect("made an array above");
    let found = conditions.iter_mut().find(|have| have.str_at(&["type"]) == kind);
    let since = match &found {
        Some(have) if have.str_at(&["status"]) == state => have.str_at(&["lastTransitionTime"]).to_owned(),
        _ => now.to_owned(),
    };
    let condition = value!({
        "lastTransitionTime": since, "message": message, "reason": reason, "status": state, "type": kind
    });
    match found {
        Some(have) => *have = condition,
        None => conditions.push(condition),
    }
}

/// The names of a definition, requested or accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    plural: Str,
    singular: Str,
    short_names: Vec<Str>,
    kind: Str,
    list_kind: Str,
    categories: Vec<Str>,
}

/// The names that others of the group hold.
struct Taken {
    resources: HashSet<Str>,
    kinds: HashSet<Str>,
}

struct Conflict {
    reason: &'static str,
    taken: Vec<Str>,
}

impl Conflict {
    fn message(&self) -> String {
        let texts: Vec<String> = self.taken.iter().map(|name| format!("{name:?} is already in use")).collect();
        match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}

impl Taken {
    fn of<'a>(others: impl Iterator<Item = (usize, &'a Names)>) -> Self {
        let mut taken = Self { resources: HashSet::new(), kinds: HashSet::new() };
        for (_, names) in others {
            taken.resources.extend([names.plural.clone(), names.singular.clone()]);
            taken.resources.extend(names.short_names.iter().cloned());
            taken.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        }
        taken
    }
}

impl Names {
    fn read(names: Option<&Value>) -> Self {
        let Some(names) = names else { return Self::default() };
        let text = |key: &str| names.str_at(&[key]).into();
        let texts = |key: &str| {
            let items = names.get(key).and_then(Value::as_array).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(Str::from).collect()
        };
        Self {
            plural: text("plural"),
            singular: text("singular"),
            short_names: texts("shortNames"),
            kind: text("kind"),
            list_kind: text("listKind"),
            categories: texts("categories"),
        }
    }

    /// The names that are granted, and the last conflict met: upstream reports that one.
    fn claim(self, held: &Names, taken: &Taken) -> (Names, Option<Conflict>) {
        let mut conflict = None;
        let mut one = |asked: Str, held: &Str, taken: &HashSet<Str>, reason: &'static str| {
            if asked == *held || !taken.contains(&asked) {
                return asked;
            }
            conflict = Some(Conflict { reason, taken: vec![asked] });
            held.clone()
        };
        let plural = one(self.plural, &held.plural, &taken.resources, "PluralConflict");
        let singular = one(self.singular, &held.singular, &taken.resources, "SingularConflict");
        let kind = one(self.kind, &held.kind, &taken.kinds, "KindConflict");
        let list_kind = one(self.list_kind, &held.list_kind, &taken.kinds, "ListKindConflict");
        let clash = |name: &&Str| !held.short_names.contains(name) && taken.resources.contains(*name);
        let clashing: Vec<Str> = self.short_names.iter().filter(clash).cloned().collect();
        let short_names = if clashing.is_empty() {
            self.short_names
        } else {
            conflict.get_or_insert(Conflict { reason: "ShortNamesConflict", taken: clashing });
            held.short_names.clone()
        };
        (Self { plural, singular, short_names, kind, list_kind, categories: self.categories }, conflict)
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        if !self.categories.is_empty() {
            map.insert("categories", self.categories.clone());
        }
        map.insert("kind", self.kind.clone());
        if !self.list_kind.is_empty() {
            map.insert("listKind", self.list_kind.clone());
        }
        map.insert("plural", self.plural.clone());
        if !self.short_names.is_empty() {
            map.insert("shortNames", self.short_names.clone());
        }
        if !self.singular.is_empty() {
            map.insert("singular", self.singular.clone());
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn definition(name: &str, created: &str, kind: &str, short: &str) -> Value {
        value!({
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"group": "example.com", "names": {
                "plural": (name.split('.').next().unwrap()), "singular": (kind.to_lowercase()), "kind": kind,
                "listKind": (format!("{kind}List")), "shortNames": [short]
            }}
        })
    }

    fn reason(verdict: &Verdict, condition: &str) -> String {
        let status = verdict.status.as_ref().unwrap();
        let conditions = status.get("conditions").unwrap().as_array().unwrap();
        let found = conditions.iter().find(|have| have.str_at(&["type"]) == condition).unwrap();
        format!("{} {} {}", found.str_at(&["status"]), found.str_at(&["reason"]), found.str_at(&["message"]))
    }

    #[test]
    fn the_older_one_keeps_its_names() {
        let older = definition("foos.example.com", "2026-01-01T00:00:00Z", "Foo", "f");
        let newer = definition("bars.example.com", "2026-01-01T00:00:01Z", "Foo", "b");
        let verdicts = judge([&newer, &older], NOW);
        assert_eq!(verdicts[0].name, "foos.example.com");
        assert!(verdicts[0].serve);
        assert_eq!(reason(&verdicts[0], "NamesAccepted"), "True NoConflicts no conflicts found");
        assert!(!verdicts[1].serve);
        assert_eq!(reason(&verdicts[1], "NamesAccepted"), r#"False ListKindConflict "FooList" is already in use"#);
        assert_eq!(reason(&verdicts[1], "Established"), "False NotAccepted not all names are accepted");
    }

    #[test]
    fn a_settled_definition_needs_no_write_and_keeps_being_served() {
        let mut definition = definition("foos.example.com", "2026-01-01T00:00:00Z", "Foo", "f");
        let status = judge([&definition], NOW).remove(0).status.unwrap();
        definition.as_object_mut().unwrap().insert("status", status);
        let verdict = judge([&definition], "2027-01-01T00:00:00Z").remove(0);
        assert_eq!(verdict, Verdict { name: "foos.example.com".into(), serve: true, status: None });
    }

    #[test]
    fn short_names_clash_too() {
        let older = definition("foos.example.com", "2026-01-01T00:00:00Z", "Foo", "x");
        let newer = definition("bars.example.com", "2026-01-01T00:00:01Z", "Bar", "x");
        let verdicts = judge([&older, &newer], NOW);
        assert_eq!(reason(&verdicts[1], "NamesAccepted"), r#"False ShortNamesConflict "x" is already in use"#);
    }
}
