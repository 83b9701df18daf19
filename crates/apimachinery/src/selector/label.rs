//! Label selectors, as a text (`app=shop,tier in (a,b),!canary`) and as the `LabelSelector` object
//! (`k8s.io/apimachinery/pkg/labels`, `apis/meta/v1`).

mod text;

use std::fmt;

use super::SelectorError;
use crate::field::{FieldErrors, FieldPath};
use crate::meta;
use crate::name;
use crate::value::{Str, Value};

/// Which objects are selected, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// Ordered by key.
    requirements: Vec<Requirement>,
    /// An absent selector object selects nothing.
    nothing: bool,
}

/// One condition on the value of one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: Str,
    pub operator: Operator,
    pub values: Vec<Str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads a selector's text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self::of(text::parse(text)?))
    }

    /// Reads a `LabelSelector` object; an absent or null one matches nothing, an empty one everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in
            selector.get("matchLabels").and_then(Value::as_object).into_iter().flat_map(|map| map.iter())
        {
            let values = value.as_str().map(Str::from).into_iter().collect();
            requirements.push(Requirement::new(key.clone(), Operator::Equals, values)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).unwrap_or_default() {
            let operator = match expression.str_at(&["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
            };
            let values = expression.get("values").and_then(Value::as_array).unwrap_or_default();
            let values = values.iter().filter_map(Value::as_str).map(Str::from).collect();
            requirements.push(Requirement::new(expression.str_at(&["key"]).into(), operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    /// Matches objects that have all these labels, as the plain map of a replication controller asks.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equals = |(key, value): (&str, &str)| Requirement {
            key: key.into(),
            operator: Operator::Equals,
            values: vec![value.into()],
        };
        Self::of(labels.into_iter().map(equals).collect())
    }

    /// This selector with further conditions; one that matches nothing goes on to match nothing.
    #[must_use]
    pub fn and(self, further: impl IntoIterator<Item = Requirement>) -> Self {
        let nothing = self.nothing;
        Self { nothing, ..Self::of(self.requirements.into_iter().chain(further).collect()) }
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { requirements, nothing: false }
    }

    /// Whether every object is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels, sorted by key, is selected.
    pub fn matches<K: AsRef<str>, V: AsRef<str>>(&self, labels: &[(K, V)]) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| {
                let found = labels.binary_search_by(|(key, _)| key.as_ref().cmp(&requirement.key));
                requirement.matches(found.ok().map(|at| labels[at].1.as_ref()))
            })
    }

    /// The value that a label must have, if there is just one: what an index can be asked for.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| requirement.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl Requirement {
    /// A condition with upstream's checks of key, values and their number.
    pub fn new(key: Str, operator: Operator, values: Vec<Str>) -> Result<Self, SelectorError> {
        let mut errors = FieldErrors::default();
        invalid(&FieldPath::new("key"), &key, &name::qualified_name(&key), &mut errors);
        let path = FieldPath::new("values");
        let list = || values.iter().cloned().map(Value::from).collect::<Vec<_>>();
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.invalid(&path, list(), "for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.invalid(&path, list(), "exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                errors.invalid(&path, list(), "values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    errors.invalid(&path, list(), "for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.invalid(&path.index(index), value.clone(), detail);
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            invalid(&path.index(index).key(&key), value, &name::label_value(value), &mut errors);
        }
        if errors.is_empty() { Ok(Self { key, operator, values }) } else { Err(SelectorError(errors.to_string())) }
    }

    /// Whether a label with this value, or an absent one, satisfies the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.numbers(value).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => self.numbers(value).is_some_and(|(value, bound)| value < bound),
        }
    }

    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        match (value?.parse(), self.values.first()?.parse()) {
            (Ok(value), Ok(bound)) => Some((value, bound)),
            _ => None,
        }
    }
}

/// All reasons against one key or value in one error.
fn invalid(path: &FieldPath, value: &Str, reasons: &[String], errors: &mut FieldErrors) {
    if !reasons.is_empty() {
        errors.invalid(path, value.clone(), reasons.join("; "));
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<&str> = self.values.iter().map(Str::as_str).collect();
        values.sort_unstable();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// The rules for a `LabelSelector` object in a spec. `lenient_values`: values that the stored object had already are
/// not checked.
pub fn validate(selector: &Value, lenient_values: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let labels = labels.into_iter().flat_map(|map| map.iter()).filter_map(|(key, value)| Some((key, value.as_str()?)));
    meta::validate_labels(labels, &path.child("matchLabels"), errors);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).unwrap_or_default();
    for (index, expression) in expressions.iter().enumerate() {
        validate_expression(expression, lenient_values, &path.child("matchExpressions").index(index), errors);
    }
}

fn validate_expression(expression: &Value, lenient_values: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let values = expression.get("values").and_then(Value::as_array).unwrap_or_default();
    match expression.str_at(&["operator"]) {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = expression.str_at(&["key"]);
    for reason in name::qualified_name(key) {
        errors.invalid(&path.child("key"), key, reason);
    }
    for (index, value) in values.iter().enumerate().filter(|_| !lenient_values) {
        for reason in name::label_value(value.as_str().unwrap_or_default()) {
            errors.invalid(&path.child("values").index(index), value.clone(), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector).unwrap().matches(labels)
    }

    #[test]
    fn parses_and_prints() {
        for (text, again) in [
            ("", ""),
            ("b=2, a == 1", "a==1,b=2"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
            ("!a , b!=c", "!a,b!=c"),
            ("a in (in,notin)", "a in (in,notin)"),
            ("in=1", "in=1"),
            ("a>1,b<2", "a>1,b<2"),
            ("a=,b", "a=,b"),
            ("a in (b , b)", "a in (b)"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), again, "{text}");
        }
    }

    #[test]
    fn refuses() {
        for (text, error) in [
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a in (b,=)", "unable to parse requirement: found '=', expected: ',', or identifier"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a==(", "unable to parse requirement: found '(', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a=b@",
                "unable to parse requirement: values[0][a]: Invalid value: \"b@\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                "a@=b",
                "unable to parse requirement: <nil>: Invalid value: \"a@\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn matching() {
        let labels = [("app", "shop"), ("n", "5"), ("tier", "a")];
        for (selector, expect) in [
            ("", true),
            ("app=shop", true),
            ("app!=shop", false),
            ("none!=x", true),
            ("none=x", false),
            ("app in (a,shop)", true),
            ("app notin (a,shop)", false),
            ("none notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!none", true),
            ("none", false),
            ("n>4", true),
            ("n>5", false),
            ("n<6", true),
            ("app>4", false),
            ("none<4", false),
            ("app=shop,tier=b", false),
        ] {
            assert_eq!(matches(selector, &labels), expect, "{selector}");
        }
        assert!(
            !LabelSelector::nothing().matches::<&str, &str>(&[])
                && LabelSelector::everything().matches::<&str, &str>(&[])
        );
        assert_eq!(LabelSelector::parse("a in (x),b").unwrap().exact("a"), Some("x"));
        assert!(LabelSelector::from_labels([("app", "shop")]).matches(&labels));
    }

    #[test]
    fn objects() {
        let parse = |object: &Value| LabelSelector::from_object(Some(object)).map(|selector| selector.to_string());
        assert_eq!(LabelSelector::from_object(None), Ok(LabelSelector::nothing()));
        assert!(LabelSelector::from_object(Some(&value!({}))).unwrap().is_empty());
        let object = value!({"matchLabels": {"z": "1"}, "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["y", "x"]}, {"key": "b", "operator": "Exists"}]});
        assert_eq!(parse(&object).unwrap(), "a notin (x,y),b,z=1");
        let wrong = value!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]});
        assert_eq!(parse(&wrong).unwrap_err().to_string(), "\"Gt\" is not a valid label selector operator");
        let wrong = value!({"matchExpressions": [{"key": "a", "operator": "In"}]});
        assert_eq!(
            parse(&wrong).unwrap_err().to_string(),
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        );
    }

    #[test]
    fn rules_for_objects() {
        let mut errors = FieldErrors::default();
        let selector = value!({"matchLabels": {"a": "b c"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "", "operator": "Near", "values": ["-"]}
        ]});
        validate(&selector, false, &FieldPath::new("spec").child("selector"), &mut errors);
        let texts: Vec<String> = errors.iter().map(|error| error.to_string().chars().take(70).collect()).collect();
        assert_eq!(
            texts,
            [
                "spec.selector.matchLabels: Invalid value: \"b c\": a valid label must be",
                "spec.selector.matchExpressions[0].values: Required value: must be spec",
                "spec.selector.matchExpressions[1].values: Forbidden: may not be specif",
                "spec.selector.matchExpressions[2].operator: Invalid value: \"Near\": not",
                "spec.selector.matchExpressions[2].key: Invalid value: \"\": name part mu",
                "spec.selector.matchExpressions[2].key: Invalid value: \"\": name part mu",
                "spec.selector.matchExpressions[2].values[0]: Invalid value: \"-\": a val",
            ]
        );
    }
}
