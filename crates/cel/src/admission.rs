//! What expressions of admission may speak of: the object, the request around it, its namespace, and for some the parameters of
//! a policy and the authorizer.

use crate::environment::Environment;
use crate::issue::describe;
use crate::program::Program;
use crate::types::Type;

/// The type of the variables of a policy.
const VARIABLES: &str = "kubernetes.variables";

/// Which variables there are besides the object, the request and its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    pub params: bool,
    pub authorizer: bool,
}

/// The environment of an expression of admission.
pub fn environment(optional: Optional) -> Environment {
    let text = |name: &'static str| (name, Type::String);
    let texts = || Type::list(Type::String);
    let labels = || Type::map(Type::String, Type::String);
    let mut environment = Environment::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", Type::object("kubernetes.AdmissionRequest"))
        .with("namespaceObject", Type::object("kubernetes.Namespace"))
        .with_object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(text))
        .with_object("kubernetes.GroupVersionResource", ["group", "version", "resource"].map(text))
        .with_object(
            "kubernetes.UserInfo",
            [text("username"), text("uid"), ("groups", texts()), ("extra", Type::map(Type::String, texts()))],
        )
        .with_object("kubernetes.AdmissionRequest", request_fields())
        .with_object("kubernetes.NamespaceSpec", [("finalizers", texts())])
        .with_object(
            "kubernetes.NamespaceCondition",
            [text("status"), text("type"), ("lastTransitionTime", Type::Timestamp), text("message"), text("reason")],
        )
        .with_object(
            "kubernetes.NamespaceStatus",
            [("conditions", Type::list(Type::object("kubernetes.NamespaceCondition"))), text("phase")],
        )
        .with_object(
            "kubernetes.NamespaceMetadata",
            [
                text("name"),
                text("generateName"),
                text("namespace"),
                ("labels", labels()),
                ("annotations", labels()),
                text("UID"),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                text("resourceVersion"),
                ("finalizers", texts()),
            ],
        )
        .with_object(
            "kubernetes.Namespace",
            [
                ("metadata", "kubernetes.NamespaceMetadata"),
                ("spec", "kubernetes.NamespaceSpec"),
                ("status", "kubernetes.NamespaceStatus"),
            ]
            .map(|(name, its)| (name, Type::object(its))),
        );
    if optional.params {
        environment = environment.with("params", Type::Dyn);
    }
    if optional.authorizer {
        environment = environment
            .with("authorizer", Type::authorizer())
            .with("authorizer.requestResource", Type::resource_check());
    }
    environment
}

fn request_fields() -> [(&'static str, Type); 12] {
    let kind = || Type::object("kubernetes.GroupVersionKind");
    let resource = || Type::object("kubernetes.GroupVersionResource");
    [
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", Type::String),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", Type::object("kubernetes.UserInfo")),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ]
}

/// Compiles an expression that has to give one of these types (none: any).
///
/// # Errors
/// Why not, in upstream's words.
pub fn compile(environment: &Environment, expression: &str, allowed: &[Type]) -> Result<Program, String> {
    let program =
        environment.compile(expression).map_err(|issues| format!("compilation failed: {}", describe(&issues)))?;
    let result = program.result();
    if allowed.is_empty() || allowed.contains(result) {
        return Ok(program);
    }
    let shown: Vec<&str> = allowed.iter().map(Type::runtime_name).collect();
    Err(match shown.as_slice() {
        [one] => format!("must evaluate to {one} but got {result}"),
        many => format!("must evaluate to one of [{}] but got {result}", many.join(" ")),
    })
}

/// The environments of one policy: its variables are known to the expressions that come after them.
#[derive(Clone, Debug, Default)]
pub struct Composed {
    fields: Vec<(String, Type)>,
}

impl Composed {
    /// Makes a variable known, by what its expression gives; dynamic where that is not in order.
    pub fn declare(&mut self, name: &str, its: Type) {
        self.fields.push((name.to_owned(), its));
    }

    /// `environment` with the variables that are known so far.
    pub fn apply(&self, environment: Environment) -> Environment {
        let fields = self.fields.iter().map(|(name, its)| (name.as_str(), its.clone()));
        environment.with("variables", Type::object(VARIABLES)).with_object(VARIABLES, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_typed_and_results_asked_for() {
        let environment = environment(Optional { params: true, authorizer: true });
        let check = |expression: &str, allowed: &[Type]| compile(&environment, expression, allowed).map(drop);
        assert_eq!(check("request.userInfo.groups.exists(g, g == 'a') && params.x", &[Type::Bool]), Ok(()));
        assert_eq!(check("authorizer.requestResource.check('get').allowed()", &[Type::Bool]), Ok(()));
        assert_eq!(check("object.x", &[Type::Bool]), Err("must evaluate to bool but got dyn".to_owned()));
        assert_eq!(
            check("1", &[Type::String, Type::Null]),
            Err("must evaluate to one of [string null_type] but got int".to_owned())
        );
        let wrong = check("request.users == 1", &[]).expect_err("there is no such field");
        assert!(wrong.starts_with("compilation failed: ERROR: <input>:1:8: undefined field 'users'"), "{wrong}");
    }

    #[test]
    fn variables_know_those_before_them() {
        let mut composed = Composed::default();
        composed.declare("replicas", Type::Int);
        let known = composed.apply(environment(Optional::default()));
        assert_eq!(compile(&known, "variables.replicas % 2 == 1", &[Type::Bool]).map(drop), Ok(()));
        assert!(compile(&known, "variables.other", &[]).is_err_and(|why| why.contains("undefined field 'other'")));
    }
}
