//! The functions that expressions may call: the language's own and Kubernetes' libraries, as tables of signatures.

pub(crate) mod authorizer;
pub(crate) mod cidr;
pub(crate) mod conversion;
pub(crate) mod format;
mod ip;
mod lists;
mod maps;
mod operators;
mod optional;
mod printf;
mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
mod sets;
mod strings;
mod times;
pub(crate) mod urls;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::budget::{Budget, Error};
use crate::types::{Signature, Type};
use crate::value::Value;

pub(crate) use printf::format_value;

/// A function in all its forms.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
}

/// One form of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Upstream's name of the form, by which costs go.
    pub(crate) id: String,
    pub(crate) signature: Signature,
    pub(crate) run: Run,
}

pub(crate) type Run = for<'a> fn(Vec<Value<'a>>, &mut Budget) -> Result<Value<'a>, Error>;

/// A line of a table: function, form, signature, what it does.
type Row = (&'static str, &'static str, &'static str, Run);

/// Types that exist for what functions do with them; they have no fields.
pub(crate) const OBJECTS: [&str; 9] = [
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let tables: [&[Row]; 17] = [
        operators::ROWS,
        conversion::ROWS,
        times::ROWS,
        strings::ROWS,
        lists::ROWS,
        maps::ROWS,
        sets::ROWS,
        optional::ROWS,
        regex::ROWS,
        urls::ROWS,
        ip::ROWS,
        cidr::ROWS,
        quantity::ROWS,
        format::ROWS,
        semver::ROWS,
        authorizer::ROWS,
        printf::ROWS,
    ];
    let mut functions = HashMap::new();
    for (name, id, signature, run) in tables.into_iter().flatten() {
        add(&mut functions, name, (*id).to_owned(), Signature::read(signature), *run);
    }
    for (name, id, signature, run) in operators::comparisons().into_iter().chain(lists::for_types()) {
        add(&mut functions, name, id, Signature::read(&signature), run);
    }
    functions
});

fn add(
    functions: &mut HashMap<&'static str, Function>,
    name: &'static str,
    id: String,
    signature: Signature,
    run: Run,
) {
    let function = functions.entry(name).or_insert_with(|| Function { name, overloads: Vec::new() });
    function.overloads.push(Overload { id, signature, run });
}

pub(crate) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

impl Overload {
    /// Whether it can be called with these values.
    pub(crate) fn takes(&self, given: &[Value<'_>]) -> bool {
        given.len() == self.signature.arguments.len()
            && self.signature.arguments.iter().zip(given).all(|(its, value)| fits(its, value))
    }
}

fn fits(its: &Type, value: &Value<'_>) -> bool {
    match its {
        Type::Dyn | Type::Param(_) | Type::Error => true,
        _ => its.runtime_name() == value.type_name(),
    }
}

/// What a function answers to values that its signature does not allow.
fn unfit<'a>() -> Result<Value<'a>, Error> {
    Err(Error::no_such_overload())
}
