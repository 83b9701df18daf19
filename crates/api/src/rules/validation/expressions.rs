//! Expressions of admission: they have to compile, and to give what is asked for, when they are written.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;
use corten_cel::admission::{Composed, Optional, compile, environment};
use corten_cel::{Environment, Type};

use super::{At, reasons};

/// Of a value expression of the audit log.
const NOTE_BYTES_MAX: usize = 5 * 1024;
const IDENTIFIER_TEXT: &str = "must be a valid CEL identifier";

/// Refuses an expression that does not compile in an environment.
fn compiles(
    at: &At<'_>,
    field: &str,
    text: &str,
    environment: &Environment,
    allowed: &[Type],
    errors: &mut FieldErrors,
) {
    if let Err(why) = compile(environment, text, allowed) {
        errors.invalid(&at.path(field), text, why);
    }
}

/// A match condition's expression; without one the caller has complained.
pub(super) fn condition(condition: &At<'_>, params: bool, errors: &mut FieldErrors) {
    let text = condition.text("expression").trim();
    if !text.is_empty() {
        compiles(
            condition,
            "expression",
            text,
            &environment(Optional { params, authorizer: true }),
            &[Type::Bool],
            errors,
        );
    }
}

/// The expressions of an admission policy besides its match conditions.
pub(super) struct Policy {
    params: bool,
    variables: Composed,
}

impl Policy {
    pub(super) fn new(spec: &At<'_>) -> Self {
        Self { params: spec.object("paramKind").is_some(), variables: Composed::default() }
    }

    fn environment(&self, authorizer: bool) -> Environment {
        self.variables.apply(environment(Optional { params: self.params, authorizer }))
    }

    /// `variables`: each knows those before it.
    pub(super) fn variables(&mut self, spec: &At<'_>, errors: &mut FieldErrors) {
        for variable in spec.each("variables") {
            let (its_name, text) = (variable.text("name"), variable.text("expression"));
            if its_name.trim().is_empty() {
                errors.required(&variable.path("name"), "name is not specified");
            } else if !name::c_identifier(its_name).is_empty() {
                errors.invalid(&variable.path("name"), its_name, IDENTIFIER_TEXT);
            }
            if text.trim().is_empty() {
                errors.required(&variable.path("expression"), "expression is not specified");
                continue;
            }
            let its = match compile(&self.environment(true), text, &[]) {
                Ok(program) => program.result().clone(),
                Err(why) => {
                    errors.invalid(&variable.path("expression"), text, why);
                    Type::Dyn
                }
            };
            self.variables.declare(its_name, its);
        }
    }

    /// One of `validations`.
    pub(super) fn validation(&self, rule: &At<'_>, errors: &mut FieldErrors) {
        let text = rule.text("expression");
        if text.trim().is_empty() {
            errors.required(&rule.path("expression"), "expression is not specified");
        } else {
            compiles(rule, "expression", text, &self.environment(true), &[Type::Bool], errors);
        }
        let message = rule.text("messageExpression");
        if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&rule.path("messageExpression"), message, "must be non-empty if specified");
        } else if !message.is_empty() {
            compiles(rule, "messageExpression", message, &self.environment(false), &[Type::String], errors);
        }
        let message = rule.text("message");
        if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&rule.path("message"), message, "must be non-empty if specified");
        } else if message.trim().contains(['\n', '\r']) {
            errors.invalid(&rule.path("message"), message, "must not contain line breaks");
        }
    }

    /// One of `auditAnnotations` of the policy of a name.
    pub(super) fn annotation(&self, note: &At<'_>, policy: &str, errors: &mut FieldErrors) {
        let (key, text) = (note.text("key"), note.text("valueExpression"));
        if policy.is_empty() {
            errors.invalid(&note.path("key"), key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{policy}/{key}");
            reasons(&note.path("key"), whole.as_str(), name::qualified_name(&whole), errors);
        }
        match text.trim().len() {
            0 => errors.required(&note.path("valueExpression"), "valueExpression is not specified"),
            length if length > NOTE_BYTES_MAX => {
                let detail = format!("must not exceed {NOTE_BYTES_MAX} bytes in length");
                errors.required(&note.path("valueExpression"), &detail);
            }
            _ => compiles(
                note,
                "valueExpression",
                text.trim(),
                &self.environment(true),
                &[Type::String, Type::Null],
                errors,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use crate::rules::validation::testing::check_rule;
    use crate::rules::validation::{admission_policy, webhook};

    fn policy(spec: Value) -> Value {
        let mut object = value!({"metadata": {"name": "p"}, "spec": spec});
        let spec = object.object_entry("spec");
        spec.insert("failurePolicy", "Fail");
        let resources = value!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [
            {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
        ]});
        spec.insert("matchConstraints", resources);
        object
    }

    #[test]
    fn expressions_of_policies_compile() {
        let check =
            |spec: Value, expect: &[&str]| check_rule(admission_policy::validating, None, &policy(spec), expect);
        check(
            value!({
                "variables": [{"name": "a", "expression": "object.x"}, {"name": "b", "expression": "variables.a + 1"}],
                "validations": [{"expression": "variables.b > 1", "messageExpression": "'a' + string(variables.b)"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "request.name"}]
            }),
            &[],
        );
        check(
            value!({
                "variables": [{"name": "a-b", "expression": "1 +"}],
                "validations": [
                    {"expression": "object.x", "messageExpression": "1", "message": "a\nb"},
                    {"expression": "params.x == 1", "messageExpression": " "}
                ],
                "auditAnnotations": [{"key": "k", "valueExpression": "true"}]
            }),
            &[
                r#"spec.variables[0].name: Invalid value: "a-b": must be a valid CEL identifier"#,
                "spec.variables[0].expression: Invalid value: \"1 +\": compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
                r#"spec.validations[0].expression: Invalid value: "object.x": must evaluate to bool but got dyn"#,
                r#"spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string but got int"#,
                "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                "spec.validations[1].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
                r#"spec.validations[1].messageExpression: Invalid value: " ": must be non-empty if specified"#,
                r#"spec.auditAnnotations[0].valueExpression: Invalid value: "true": must evaluate to one of [string null_type] but got bool"#,
            ],
        );
    }

    #[test]
    fn match_conditions_compile_once() {
        let object = value!({"webhooks": [{
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a"},
            "matchConditions": [{"name": "good", "expression": "authorizer.group('').resource('pods').check('get').allowed()"},
                {"name": "wrong", "expression": "object.metadata.name"}]
        }]});
        let why = r#"webhooks[0].matchConditions[1].expression: Invalid value: "object.metadata.name": must evaluate to bool but got dyn"#;
        check_rule(webhook::validating, None, &object, &[why]);
        check_rule(webhook::mutating, None, &object, &[why]);
        check_rule(webhook::validating, Some(&object), &object, &[]);
    }
}
