//! Policies and bindings as they are read from their objects.

use corten_apimachinery::value::Value;
use corten_cel::admission::{Composed, Optional, compile, environment};
use corten_cel::{Program, Type};

use crate::matching::Constraints;

/// An expression that is ready, or why it is not.
pub(crate) type Ready = Result<Program, String>;

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) constraints: Constraints,
    /// API version and kind of what bindings hand to it.
    pub(super) param_kind: Option<(String, String)>,
    /// Whether a request goes on where the policy cannot be evaluated.
    pub(super) ignores_failures: bool,
    pub(super) conditions: Vec<Ready>,
    /// The first that is not in order makes the whole policy fail.
    pub(super) variables: Result<Vec<(String, Program)>, String>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Ready)>,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Ready,
    /// As it was written.
    pub(super) source: String,
    pub(super) message: String,
    pub(super) message_expression: Option<Ready>,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// `None` matches what the policy matches.
    pub(super) constraints: Option<Constraints>,
    pub(super) param: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Value,
    /// What happens where there is no such object.
    pub(super) denies_absence: bool,
}

fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn present<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    object.at(path).filter(|value| !value.is_null())
}

impl Policy {
    pub(super) fn read(object: &Value) -> Self {
        let param_kind = present(object, &["spec", "paramKind"])
            .map(|kind| (kind.str_at(&["apiVersion"]).to_owned(), kind.str_at(&["kind"]).to_owned()));
        let params = param_kind.is_some();
        let plain = |authorizer| environment(Optional { params, authorizer });
        let conditions = items(object, &["spec", "matchConditions"]).iter();
        let conditions = conditions
            .map(|condition| compile(&plain(true), condition.str_at(&["expression"]), &[Type::Bool]))
            .collect();
        let (variables, composed) = variables(object, params);
        let (asking, plain) = (composed.apply(plain(true)), composed.apply(plain(false)));
        let validation = |validation: &Value| Validation {
            expression: compile(&asking, validation.str_at(&["expression"]), &[Type::Bool]),
            source: validation.str_at(&["expression"]).trim().to_owned(),
            message: validation.str_at(&["message"]).trim().to_owned(),
            message_expression: present(validation, &["messageExpression"])
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(|text| compile(&plain, text, &[Type::String])),
            reason: validation.str_at(&["reason"]).to_owned(),
        };
        let annotation = |annotation: &Value| {
            let ready = compile(&plain, annotation.str_at(&["valueExpression"]), &[Type::String, Type::Null]);
            (annotation.str_at(&["key"]).to_owned(), ready)
        };
        Self {
            name: object.str_at(&["metadata", "name"]).to_owned(),
            constraints: Constraints::of_resources(
                present(object, &["spec", "matchConstraints"]).unwrap_or(&Value::Null),
            ),
            param_kind,
            ignores_failures: object.str_at(&["spec", "failurePolicy"]) == "Ignore",
            conditions,
            variables,
            validations: items(object, &["spec", "validations"]).iter().map(validation).collect(),
            annotations: items(object, &["spec", "auditAnnotations"]).iter().map(annotation).collect(),
        }
    }
}

/// The variables of a policy, each of which knows those before it.
fn variables(object: &Value, params: bool) -> (Result<Vec<(String, Program)>, String>, Composed) {
    let mut composed = Composed::default();
    let mut ready = Ok(Vec::new());
    for variable in items(object, &["spec", "variables"]) {
        let name = variable.str_at(&["name"]);
        let known = composed.apply(environment(Optional { params, authorizer: true }));
        match compile(&known, variable.str_at(&["expression"]), &[]) {
            Ok(program) => {
                composed.declare(name, program.result().clone());
                if let Ok(ready) = &mut ready {
                    ready.push((name.to_owned(), program));
                }
            }
            Err(why) => {
                composed.declare(name, Type::Dyn);
                ready = ready.and(Err(format!("composited variable {name:?} fails to compile: {why}")));
            }
        }
    }
    (ready, composed)
}

impl Binding {
    pub(super) fn read(object: &Value) -> Self {
        let param = present(object, &["spec", "paramRef"]).map(|param| ParamRef {
            name: param.str_at(&["name"]).to_owned(),
            namespace: param.str_at(&["namespace"]).to_owned(),
            selector: param.get("selector").cloned().unwrap_or_default(),
            denies_absence: param.str_at(&["parameterNotFoundAction"]) == "Deny",
        });
        let actions = items(object, &["spec", "validationActions"]).iter();
        Self {
            name: object.str_at(&["metadata", "name"]).to_owned(),
            policy: object.str_at(&["spec", "policyName"]).to_owned(),
            constraints: present(object, &["spec", "matchResources"]).map(Constraints::of_resources),
            param,
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}
