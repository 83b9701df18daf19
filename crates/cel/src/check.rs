//! The checker: every node gets a type, every name a meaning.
//!
//! The rules and the words are upstream's, since users read the complaints and tests compare them.

mod unify;

use crate::ast::{Comprehension, Entry, Expr, Field, Item, Kind, Literal, operator};
use crate::environment::Environment;
use crate::issue::Issue;
use crate::library::{self, Function, Overload};
use crate::types::{Signature, Type, applied_to};
use unify::{Mapping, most_general};

/// Parts that one type may have.
const TYPE_PARTS_MAX: usize = 1_000;

/// What the checker found out about a node besides its type.
#[derive(Clone, Debug, Default)]
pub(crate) enum Note {
    #[default]
    None,
    /// The name stands for a type.
    Type(Type),
    /// A call of one of these.
    Call(&'static Function, Vec<&'static Overload>),
}

/// An expression that is in order.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) root: Expr,
    /// By the number of the node.
    pub(crate) notes: Vec<Note>,
    pub(crate) types: Vec<Type>,
}

pub(crate) fn check(
    source: &str,
    environment: &Environment,
    mut root: Expr,
    nodes: u32,
) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        source,
        environment,
        locals: Vec::new(),
        mapping: Mapping::default(),
        variables: 0,
        notes: vec![Note::None; nodes as usize],
        types: vec![Type::Error; nodes as usize],
        issues: Vec::new(),
    };
    checker.check(&mut root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|each| checker.mapping.substitute(each, true)).collect();
    Ok(Checked { root, notes: checker.notes, types })
}

struct Checker<'a> {
    source: &'a str,
    environment: &'a Environment,
    /// Variables of loops, the innermost last.
    locals: Vec<(String, Type)>,
    mapping: Mapping,
    /// How many type variables there are.
    variables: u32,
    notes: Vec<Note>,
    types: Vec<Type>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn complain(&mut self, at: u32, message: impl Into<String>) {
        self.issues.push(Issue::at(self.source, at, message));
    }

    fn mismatch(&mut self, at: u32, expected: &Type, found: &Type) {
        self.complain(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn undeclared(&mut self, at: u32, name: &str) -> Type {
        self.complain(at, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn set(&mut self, expr: &Expr, its: Type) {
        self.types[expr.id as usize] = its;
    }

    fn of(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone()
    }

    fn fits(&mut self, given: &Type, expected: &Type) -> bool {
        self.mapping.assignable(std::slice::from_ref(given), std::slice::from_ref(expected))
    }

    fn variable(&mut self) -> Type {
        self.variables += 1;
        Type::param(format!("_var{}", self.variables - 1))
    }

    /// What a name means: its type, and the type that it stands for.
    fn lookup(&self, name: &str) -> Option<(Type, Note)> {
        let global = name.strip_prefix('.');
        if global.is_none()
            && let Some((_, its)) = self.locals.iter().rev().find(|(local, _)| local == name)
        {
            return Some((its.clone(), Note::None));
        }
        let name = global.unwrap_or(name);
        if let Some(its) = self.environment.variable_type(name) {
            return Some((its.clone(), Note::None));
        }
        let named = self.environment.named_type(name)?;
        Some((Type::Type(Some(named.clone().into())), Note::Type(named)))
    }

    fn check(&mut self, expr: &mut Expr) {
        let its = match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(_) => self.ident(expr),
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(expr.at, entries),
            Kind::Struct { name, fields } => self.message(expr.at, name, fields),
            Kind::Comprehension(fold) => self.comprehension(fold),
        };
        self.set(expr, its);
    }

    fn ident(&mut self, expr: &Expr) -> Type {
        let name = expr.as_ident().expect("the caller has looked");
        match self.lookup(name) {
            Some((its, note)) => {
                self.notes[expr.id as usize] = note;
                its
            }
            None => {
                let name = name.to_owned();
                self.undeclared(expr.at, &name)
            }
        }
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        if let Some(name) = expr.qualified_name()
            && let Some((its, note)) = self.lookup(&name)
        {
            self.notes[expr.id as usize] = note;
            expr.kind = Kind::Ident(name);
            return its;
        }
        let at = expr.at;
        let Kind::Select { operand, field, test } = &mut expr.kind else { unreachable!("the caller has looked") };
        let its = self.select_field(at, operand, field, false);
        if *test { Type::Bool } else { self.mapping.substitute(&its, false) }
    }

    fn select_field(&mut self, at: u32, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand = self.mapping.substitute(&self.of(operand), false);
        let (target, was_optional) = operand.unwrapped().map_or((&operand, false), |inner| (inner, true));
        let result = match target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(name) => self.field_type(at, name, field),
            Type::Param(_) => {
                self.fits(&Type::Dyn, target);
                Type::Dyn
            }
            _ => {
                if !target.is_dyn_or_error() {
                    self.complain(at, format!("type '{target}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn field_type(&mut self, at: u32, name: &str, field: &str) -> Type {
        match self.environment.field_type(name, field) {
            Some(its) => its.clone(),
            None => {
                self.complain(at, format!("undefined field '{field}'"));
                Type::Error
            }
        }
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let (at, id) = (expr.at, expr.id);
        let Kind::Call { function, target, arguments } = &mut expr.kind else { unreachable!("the caller has looked") };
        if function == operator::OPTIONAL_SELECT {
            let (operand, field) = arguments.split_at_mut(1);
            let field = field[0].as_string().expect("the parser puts a name there").to_owned();
            let its = self.select_field(at, &mut operand[0], &field, true);
            self.types[arguments[1].id as usize] = Type::String;
            return self.mapping.substitute(&its, false);
        }
        for argument in arguments.iter_mut() {
            self.check(argument);
        }
        if let Some(prefix) = target.as_deref().and_then(Expr::qualified_name)
            && let Some(named) = library::function(&format!("{prefix}.{function}"))
        {
            *function = named.name.to_owned();
            *target = None;
        }
        if let Some(target) = target.as_deref_mut() {
            self.check(target);
        }
        let Some(declared) = library::function(function.strip_prefix('.').unwrap_or(function)) else {
            let name = function.clone();
            return self.undeclared(at, &name);
        };
        self.resolve(at, id, declared, target.as_deref(), arguments)
    }

    /// Which forms of the function fit, and what they give.
    fn resolve(
        &mut self,
        at: u32,
        id: u32,
        function: &'static Function,
        target: Option<&Expr>,
        arguments: &[Expr],
    ) -> Type {
        let given: Vec<Type> = target.into_iter().chain(arguments).map(|argument| self.of(argument)).collect();
        if matches!(function.name, operator::AND | operator::OR) {
            return self.logical(arguments, &given);
        }
        let (mut result, mut candidates): (Option<Type>, Vec<&'static Overload>) = (None, Vec::new());
        for overload in &function.overloads {
            if overload.signature.member != target.is_some() {
                continue;
            }
            let (expected, gives) = self.instance(&overload.signature);
            if !self.mapping.assignable(&given, &expected) {
                continue;
            }
            candidates.push(overload);
            let gives = self.mapping.substitute(&gives, false);
            result = Some(match result {
                None => gives,
                Some(former) if former.is_dyn() || former == gives => former,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<Type> = given.iter().map(|each| self.mapping.substitute(each, true)).collect();
            let applied = applied_to(&shown, target.is_some());
            self.complain(at, format!("found no matching overload for '{}' applied to '{applied}'", function.name));
            return Type::Error;
        };
        self.notes[id as usize] = Note::Call(function, candidates);
        result
    }

    fn logical(&mut self, arguments: &[Expr], given: &[Type]) -> Type {
        let mut result = Type::Bool;
        for (argument, its) in arguments.iter().zip(given) {
            if !self.fits(its, &Type::Bool) {
                self.mismatch(argument.at, &Type::Bool, its);
                result = Type::Error;
            }
        }
        result
    }

    /// A signature with variables of its own for its parameters.
    fn instance(&mut self, signature: &Signature) -> (Vec<Type>, Type) {
        let mut fresh: Vec<(Type, Type)> = Vec::new();
        let arguments = signature.arguments.iter().map(|each| self.renamed(each, &mut fresh)).collect();
        (arguments, self.renamed(&signature.result, &mut fresh))
    }

    fn renamed(&mut self, its: &Type, fresh: &mut Vec<(Type, Type)>) -> Type {
        if !matches!(its, Type::Param(_)) {
            return its.with_parameters(|part| self.renamed(part, fresh));
        }
        if let Some((_, variable)) = fresh.iter().find(|(parameter, _)| parameter == its) {
            return variable.clone();
        }
        let variable = self.variable();
        fresh.push((its.clone(), variable.clone()));
        variable
    }

    /// The type of a part of a list or map, of what an optional part holds.
    fn part(&mut self, value: &mut Expr, optional: bool) -> Type {
        self.check(value);
        let its = self.of(value);
        if !optional {
            return its;
        }
        match its.unwrapped() {
            Some(inner) => inner.clone(),
            None => {
                if !its.is_dyn() {
                    self.mismatch(value.at, &Type::optional(its.clone()), &its);
                }
                its
            }
        }
    }

    fn join(&mut self, at: u32, former: Option<Type>, its: Type) -> Option<Type> {
        let Some(former) = former else { return Some(its) };
        if self.fits(&former, &its) {
            return Some(most_general(&former, &its).clone());
        }
        self.mismatch(at, &former, &its);
        Some(Type::Error)
    }

    fn list(&mut self, items: &mut [Item]) -> Type {
        let mut joined = None;
        for item in items {
            let its = self.part(&mut item.value, item.optional);
            joined = self.join(item.value.at, joined, its);
        }
        Type::list(joined.unwrap_or_else(|| self.variable()))
    }

    fn map(&mut self, at: u32, entries: &mut [Entry]) -> Type {
        let (mut key, mut value) = (None, None);
        for entry in entries {
            let its = self.part(&mut entry.key, false);
            key = self.join(entry.key.at, key, its);
            let its = self.part(&mut entry.value, entry.optional);
            value = self.join(entry.value.at, value, its);
        }
        let (Some(key), Some(value)) = (key, value) else { return Type::map(self.variable(), self.variable()) };
        let (key, value) = (self.mapping.substitute(&key, false), self.mapping.substitute(&value, false));
        if parts(&key) + parts(&value) > TYPE_PARTS_MAX {
            self.complain(at, "type is too large");
            return Type::Error;
        }
        Type::map(key, value)
    }

    fn message(&mut self, at: u32, name: &mut String, fields: &mut [Field]) -> Type {
        if let Some(global) = name.strip_prefix('.') {
            *name = global.to_owned();
        }
        let its = match self.lookup(name) {
            None => self.undeclared(at, name),
            Some((_, Note::Type(its @ Type::Object(_)))) => its,
            Some((_, Note::Type(other))) => {
                self.complain(at, format!("'{other}' is not a message type"));
                Type::Error
            }
            Some((other, _)) => {
                self.complain(at, format!("'{other}' is not a type"));
                Type::Error
            }
        };
        for field in fields {
            let given = self.part(&mut field.value, field.optional);
            let Type::Object(name) = &its else { continue };
            let expected = self.field_type(field.at, name, &field.name);
            if !self.fits(&expected, &given) {
                let message =
                    format!("expected type of field '{}' is '{expected}' but provided type is '{given}'", field.name);
                self.complain(field.at, message);
            }
        }
        its
    }

    fn comprehension(&mut self, fold: &mut Comprehension) -> Type {
        self.check(&mut fold.range);
        self.check(&mut fold.start);
        let range = self.mapping.substitute(&self.of(&fold.range), false);
        let carried = self.of(&fold.start);
        let outside = self.locals.len();
        self.locals.push((fold.accumulator.clone(), carried.clone()));
        let (first, second) = match &range {
            Type::List(item) => (Type::Int, (**item).clone()),
            Type::Map(pair) => pair.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.fits(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.complain(fold.range.at, message);
                (Type::Error, Type::Error)
            }
        };
        match &fold.second {
            Some(name) => {
                self.locals.push((fold.variable.clone(), first));
                self.locals.push((name.clone(), second));
            }
            None => {
                let its = if matches!(range, Type::List(_)) { second } else { first };
                self.locals.push((fold.variable.clone(), its));
            }
        }
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &carried);
        self.locals.truncate(outside + 1);
        self.check(&mut fold.result);
        self.locals.truncate(outside);
        self.mapping.substitute(&self.of(&fold.result), false)
    }

    fn assert(&mut self, expr: &Expr, expected: &Type) {
        let its = self.of(expr);
        if !self.fits(expected, &its) {
            self.mismatch(expr.at, expected, &its);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// How many parts a type has; counts no further than there may be.
fn parts(its: &Type) -> usize {
    let mut count = 1;
    for part in its.parameters() {
        count += parts(part);
        if count > TYPE_PARTS_MAX {
            break;
        }
    }
    count
}
