//! Questions to the authorizer: `authorizer.group("apps").resource("deployments").namespace("a").check("create").allowed()`.

use std::fmt;
use std::sync::Arc;

use corten_apimachinery::kind::NameRule;
use corten_apimachinery::name::object_name;

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";

pub(super) const ROWS: &[Row] = &[
    (
        "path",
        "authorizer_path",
        "kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.PathCheck",
        path,
    ),
    (
        "group",
        "authorizer_group",
        "kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.GroupCheck",
        group,
    ),
    (
        "serviceAccount",
        "authorizer_serviceaccount",
        "kubernetes.authorization.Authorizer.(string, string) -> kubernetes.authorization.Authorizer",
        service_account,
    ),
    (
        "resource",
        "groupcheck_resource",
        "kubernetes.authorization.GroupCheck.(string) -> kubernetes.authorization.ResourceCheck",
        resource,
    ),
    (
        "subresource",
        "resourcecheck_subresource",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |given, _| narrowed(given, |check| &mut check.subresource),
    ),
    (
        "namespace",
        "resourcecheck_namespace",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |given, _| narrowed(given, |check| &mut check.namespace),
    ),
    (
        "name",
        "resourcecheck_name",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |given, _| narrowed(given, |check| &mut check.name),
    ),
    (
        "fieldSelector",
        "authorizer_fieldselector",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |given, _| narrowed(given, |check| &mut check.field_selector),
    ),
    (
        "labelSelector",
        "authorizer_labelselector",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        |given, _| narrowed(given, |check| &mut check.label_selector),
    ),
    (
        "check",
        "pathcheck_check",
        "kubernetes.authorization.PathCheck.(string) -> kubernetes.authorization.Decision",
        check,
    ),
    (
        "check",
        "resourcecheck_check",
        "kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.Decision",
        check,
    ),
    ("allowed", "decision_allowed", "kubernetes.authorization.Decision.() -> bool", |given, _| {
        of_decision(&given, |decision| Value::Bool(decision.allowed))
    }),
    ("reason", "decision_reason", "kubernetes.authorization.Decision.() -> string", |given, _| {
        of_decision(&given, |decision| Value::string(decision.reason.as_str()))
    }),
    ("errored", "decision_errored", "kubernetes.authorization.Decision.() -> bool", |given, _| {
        of_decision(&given, |decision| Value::Bool(decision.error.is_some()))
    }),
    ("error", "decision_error", "kubernetes.authorization.Decision.() -> string", |given, _| {
        of_decision(&given, |decision| Value::string(decision.error.as_deref().unwrap_or_default()))
    }),
];

/// Who decides. What it decides about is the request's user, or a service account that the expression names.
pub trait Authorizer: fmt::Debug + Sync {
    fn decide(&self, question: &Question<'_>) -> Decision;
}

/// What an expression asks.
#[derive(Debug)]
pub enum Question<'q> {
    Path { service_account: Option<(&'q str, &'q str)>, path: &'q str, verb: &'q str },
    Resource { check: &'q ResourceCheck<'q>, verb: &'q str },
}

#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// Whose rights are asked about.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    authorizer: &'a dyn Authorizer,
    /// Namespace and name, where it is not the request's user.
    service_account: Option<Arc<(String, String)>>,
}

impl<'a> Caller<'a> {
    /// The request's user.
    pub fn new(authorizer: &'a dyn Authorizer) -> Self {
        Self { authorizer, service_account: None }
    }

    /// Namespace and name of the service account that is asked about; `None` for the request's user.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.service_account.as_ref().map(|pair| (pair.0.as_str(), pair.1.as_str()))
    }
}

#[derive(Clone, Debug)]
pub struct PathCheck<'a> {
    caller: Caller<'a>,
    path: String,
}

#[derive(Clone, Debug)]
pub struct GroupCheck<'a> {
    caller: Caller<'a>,
    group: String,
}

/// A question about a resource, as far as it is put.
#[derive(Clone, Debug)]
pub struct ResourceCheck<'a> {
    pub caller: Caller<'a>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

impl<'a> ResourceCheck<'a> {
    pub fn new(caller: Caller<'a>, group: &str, resource: &str) -> Self {
        let empty = String::new;
        Self {
            caller,
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: empty(),
            namespace: empty(),
            name: empty(),
            field_selector: empty(),
            label_selector: empty(),
        }
    }
}

fn path<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Authorizer(_), Value::String(path)] if path.trim().is_empty() => {
            Err(Error::new("path must not be empty"))
        }
        [Value::Authorizer(caller), Value::String(path)] => {
            Ok(Value::PathCheck(Arc::new(PathCheck { caller: caller.clone(), path: path.to_string() })))
        }
        _ => unfit(),
    }
}

fn group<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Authorizer(caller), Value::String(group)] => {
            Ok(Value::GroupCheck(Arc::new(GroupCheck { caller: caller.clone(), group: group.to_string() })))
        }
        _ => unfit(),
    }
}

fn service_account<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::Authorizer(caller), Value::String(namespace), Value::String(name)] = given.as_slice() else {
        return unfit();
    };
    if !object_name(NameRule::DnsSubdomain, name, false).is_empty() {
        return Err(Error::new("Invalid service account name"));
    }
    if !object_name(NameRule::DnsLabel, namespace, false).is_empty() {
        return Err(Error::new("Invalid service account namespace"));
    }
    let account = Arc::new((namespace.to_string(), name.to_string()));
    Ok(Value::Authorizer(Caller { authorizer: caller.authorizer, service_account: Some(account) }))
}

fn resource<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::GroupCheck(_), Value::String(resource)] if resource.trim().is_empty() => {
            Err(Error::new("resource must not be empty"))
        }
        [Value::GroupCheck(check), Value::String(resource)] => {
            Ok(Value::ResourceCheck(Arc::new(ResourceCheck::new(check.caller.clone(), &check.group, resource))))
        }
        _ => unfit(),
    }
}

/// The question with one more detail.
fn narrowed<'a>(
    given: Vec<Value<'a>>,
    field: for<'c> fn(&'c mut ResourceCheck<'a>) -> &'c mut String,
) -> Result<Value<'a>, Error> {
    let [Value::ResourceCheck(check), Value::String(text)] = given.as_slice() else { return unfit() };
    let mut check = ResourceCheck::clone(check);
    *field(&mut check) = text.to_string();
    Ok(Value::ResourceCheck(Arc::new(check)))
}

fn check<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let decision = match given.as_slice() {
        [Value::PathCheck(check), Value::String(verb)] => {
            let question = Question::Path { service_account: check.caller.service_account(), path: &check.path, verb };
            check.caller.authorizer.decide(&question)
        }
        [Value::ResourceCheck(check), Value::String(verb)] => {
            check.caller.authorizer.decide(&Question::Resource { check, verb })
        }
        _ => return unfit(),
    };
    Ok(Value::Decision(Arc::new(decision)))
}

fn of_decision<'a>(given: &[Value<'a>], of: fn(&Decision) -> Value<'a>) -> Result<Value<'a>, Error> {
    match given {
        [Value::Decision(decision)] => Ok(of(decision)),
        _ => unfit(),
    }
}

impl crate::types::Type {
    /// The type of the variable `authorizer`.
    pub fn authorizer() -> Self {
        Self::object(AUTHORIZER)
    }

    /// The type of a question about a resource.
    pub fn resource_check() -> Self {
        Self::object("kubernetes.authorization.ResourceCheck")
    }
}
