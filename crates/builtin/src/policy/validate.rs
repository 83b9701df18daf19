//! Evaluates a policy's expressions on one request with one parameter.

use corten_apimachinery::value::Value as Tree;
use corten_apiserver::admission::AdmissionRequest;
use corten_apiserver::auth::{Attributes, AuthzTarget, User};
use corten_cel::{
    Activation, Authorizer, Budget, Caller, Decision, Error, Program, Question, ResourceCheck, Shape, Value,
};

use super::circumstances::Circumstances;
use super::compiled::{Policy, Ready, Validation};
use crate::rbac::authorizer::Rbac;

/// What all expressions of a policy may cost together, for one request.
const COST_MAX: u64 = 10_000_000;
/// Of what a message expression gives; longer ones are not used.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What a policy says of a request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Results {
    /// By the number of the validation; what is not there is content.
    pub(super) denied: Vec<Denied>,
    /// Keys and values for the audit log, or why there is none.
    pub(super) annotations: Vec<(String, Result<String, String>)>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Denied {
    pub(super) index: usize,
    pub(super) message: String,
    /// Empty where the expression did not say.
    pub(super) reason: String,
}

pub(super) fn validate(
    policy: &Policy,
    on: &Circumstances,
    param: &Tree,
    rbac: &Rbac,
    request: &AdmissionRequest,
) -> Results {
    let asked = Asked { rbac, user: &request.user };
    let outcome = conditions(&policy.conditions, on, param, &asked, request).and_then(|hold| match hold {
        true => evaluate(policy, on, param, &asked, request),
        false => Ok(Results::default()),
    });
    outcome.unwrap_or_else(|why| {
        let denied = Denied { index: 0, message: why, reason: String::new() };
        Results { denied: if policy.ignores_failures { Vec::new() } else { vec![denied] }, annotations: Vec::new() }
    })
}

/// The variables; `authorizer` only where expressions may ask it.
fn activation<'a>(
    on: &'a Circumstances,
    param: &'a Tree,
    asked: Option<(&'a Asked<'a>, &AdmissionRequest)>,
) -> Activation<'a> {
    let read = |tree: &'a Tree| Shape::any().read(tree);
    let activation = Activation::new()
        .with("object", read(&on.object))
        .with("oldObject", read(&on.old_object))
        .with("request", read(&on.request))
        .with("namespaceObject", read(&on.namespace))
        .with("params", read(param));
    let Some((asked, request)) = asked else { return activation };
    let caller = Caller::new(asked);
    let mut check = ResourceCheck::new(caller.clone(), &request.kind.gvk.group, &request.kind.plural);
    check.subresource.clone_from(&request.subresource);
    check.namespace.clone_from(&request.namespace);
    check.name.clone_from(&request.name);
    activation
        .with("authorizer", Value::Authorizer(caller))
        .with("authorizer.requestResource", Value::ResourceCheck(check.into()))
}

/// One expression's value. The outer error ends everything, the inner one is the expression's own.
fn one<'a>(ready: &'a Ready, on: &Activation<'a>, budget: &mut Budget) -> Result<Result<Value<'a>, String>, String> {
    let program: &Program = match ready {
        Ok(program) => program,
        Err(why) => return Ok(Err(format!("compilation error: {why}"))),
    };
    match program.evaluate(on, budget) {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Budget) => Err(OUT_OF_BUDGET.to_owned()),
        Err(error) => Ok(Err(format!("expression '{}' resulted in error: {error}", program.source()))),
    }
}

/// Whether all match conditions of a webhook hold.
pub(crate) fn hold(
    ready: &[Ready],
    on: &Circumstances,
    rbac: &Rbac,
    request: &AdmissionRequest,
) -> Result<bool, String> {
    conditions(ready, on, &Tree::Null, &Asked { rbac, user: &request.user }, request)
}

/// Whether all match conditions hold. One that does not decides, whatever is wrong with others.
fn conditions(
    ready: &[Ready],
    on: &Circumstances,
    param: &Tree,
    asked: &Asked<'_>,
    request: &AdmissionRequest,
) -> Result<bool, String> {
    let activation = activation(on, param, Some((asked, request)));
    let mut budget = Budget::new(COST_MAX / 4);
    let mut errors = Vec::new();
    for condition in ready {
        match one(condition, &activation, &mut budget)? {
            Ok(Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(why) => errors.push(why),
        }
    }
    match errors.len() {
        0 => Ok(true),
        1 => Err(errors.swap_remove(0)),
        _ => Err(format!("[{}]", errors.join(", "))),
    }
}

fn evaluate(
    policy: &Policy,
    on: &Circumstances,
    param: &Tree,
    asked: &Asked<'_>,
    request: &AdmissionRequest,
) -> Result<Results, String> {
    let variables = policy.variables.as_ref().map_err(Clone::clone)?;
    let asking = activation(on, param, Some((asked, request))).with_composed("variables", variables);
    let plain = activation(on, param, None).with_composed("variables", variables);
    let mut budget = Budget::new(COST_MAX);
    let mut values = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        values.push(one(&validation.expression, &asking, &mut budget)?);
    }
    let mut results = Results::default();
    for (index, (validation, value)) in policy.validations.iter().zip(values).enumerate() {
        match value {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &plain, &mut budget);
                results.denied.push(Denied { index, message: message?, reason: validation.reason.clone() });
            }
            Err(_) if policy.ignores_failures => {}
            Err(message) => results.denied.push(Denied { index, message, reason: String::new() }),
        }
    }
    let mut budget = Budget::new(COST_MAX);
    for (key, expression) in &policy.annotations {
        match one(expression, &asking, &mut budget)? {
            Ok(Value::String(text)) if text.trim().is_empty() => {}
            Ok(Value::String(text)) => results.annotations.push((key.clone(), Ok(text.trim().to_owned()))),
            Ok(Value::Null) => {}
            Ok(other) => {
                let source = expression.as_ref().map_or("", Program::source);
                let told = other.type_name();
                let why = format!(
                    "valueExpression '{source}' resulted in unsupported return type: {told}. Return type must be either string or null."
                );
                results.annotations.push((key.clone(), Err(why)));
            }
            Err(_) if policy.ignores_failures => {}
            Err(why) => results.annotations.push((key.clone(), Err(why))),
        }
    }
    Ok(results)
}

/// What is said of a request that a validation refuses: what the expression for it gives, else its text, else the expression.
fn message<'a>(validation: &'a Validation, on: &Activation<'a>, budget: &mut Budget) -> Result<String, String> {
    if let Some(expression) = &validation.message_expression {
        let value = one(expression, on, budget).map_err(|why| format!("failed messageExpression: {why}"))?;
        if let Ok(Value::String(text)) = value {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                return Ok(text.to_owned());
            }
        }
    }
    Ok(match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.source),
        message => message.to_owned(),
    })
}

/// Answers expressions out of the roles that there are.
#[derive(Debug)]
struct Asked<'a> {
    rbac: &'a Rbac,
    user: &'a User,
}

impl Authorizer for Asked<'_> {
    fn decide(&self, question: &Question<'_>) -> Decision {
        let (account, verb, target) = match question {
            Question::Path { service_account, path, verb } => (*service_account, *verb, AuthzTarget::Path(path)),
            Question::Resource { check, verb } => {
                let target = AuthzTarget::Resource {
                    group: &check.group,
                    version: "*",
                    resource: &check.resource,
                    subresource: &check.subresource,
                    namespace: &check.namespace,
                    name: &check.name,
                };
                (check.caller.service_account(), *verb, target)
            }
        };
        let account = account.map(|(namespace, name)| User {
            name: format!("system:serviceaccount:{namespace}:{name}").into(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}").into()],
            ..User::default()
        });
        let attributes = Attributes { user: account.as_ref().unwrap_or(self.user), verb, target };
        if self.rbac.decide(&attributes) == corten_apiserver::auth::Decision::Allow {
            return Decision { allowed: true, reason: self.rbac.explain(&attributes).unwrap_or_default(), error: None };
        }
        Decision { allowed: false, reason: self.rbac.explain(&attributes).err().unwrap_or_default(), error: None }
    }
}
