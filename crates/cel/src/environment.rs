//! What an expression may speak of: variables, types with fields, and the libraries.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::check;
use crate::issue::Issue;
use crate::library;
use crate::parse::parse;
use crate::program::Program;
use crate::types::Type;

/// Declarations for the checker. Kubernetes' libraries are always there.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    objects: BTreeMap<Arc<str>, BTreeMap<String, Type>>,
    bindings: bool,
}

impl Environment {
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable; another of that name is replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, its: Type) -> Self {
        self.variables.insert(name.into(), its);
        self
    }

    /// Declares a type with fields; expressions may make values of it (`Name{field: value}`).
    #[must_use]
    pub fn with_object<'a>(mut self, name: &str, fields: impl IntoIterator<Item = (&'a str, Type)>) -> Self {
        self.objects.insert(name.into(), fields.into_iter().map(|(name, its)| (name.to_owned(), its)).collect());
        self
    }

    /// Allows `cel.bind`, which most of Kubernetes does not know.
    #[must_use]
    pub fn with_bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    pub(crate) fn variable_type(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        if self.objects.contains_key(name) || library::OBJECTS.contains(&name) {
            return Some(Type::object(name));
        }
        Type::well_known(name)
    }

    pub(crate) fn field_type(&self, object: &str, field: &str) -> Option<&Type> {
        self.objects.get(object)?.get(field)
    }

    /// Parses and checks an expression.
    pub fn compile(&self, source: &str) -> Result<Program, Vec<Issue>> {
        let parsed = parse(source, self.bindings)?;
        let checked = check(source, self, parsed.root, parsed.nodes)?;
        Program::new(source, checked)
    }
}
