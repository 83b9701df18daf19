//! The evaluator: walks the tree, counts what it costs as upstream does.
//!
//! Recursion is bounded by the parser's limit of depth, time by the budget.

use std::cell::RefCell;
use std::sync::Arc;

use crate::ast::{Comprehension, Entry, Expr, Item, Kind, Literal, operator};
use crate::budget::{Budget, Error};
use crate::check::Note;
use crate::cost::call_cost;
use crate::library::{self, Function, Overload};
use crate::program::{Program, is_free_membership};
use crate::value::{Key, List, Map, Struct, Value};

const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const STRUCT_COST: u64 = 40;

type Outcome<'a> = Result<Value<'a>, Error>;

/// What the variables of an expression hold.
#[derive(Debug, Default)]
pub struct Activation<'a> {
    variables: Vec<(&'a str, Value<'a>)>,
    /// Variables that are expressions: by their name below `composed_name`.
    composed: &'a [(String, Program)],
    composed_name: &'a str,
    /// What each of those gave, once it was asked for.
    memory: RefCell<Vec<Option<Outcome<'a>>>>,
}

impl<'a> Activation<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: impl Into<Value<'a>>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Fields of `name` that are expressions, evaluated once each and only when they are asked for.
    #[must_use]
    pub fn with_composed(mut self, name: &'a str, fields: &'a [(String, Program)]) -> Self {
        self.composed = fields;
        self.composed_name = name;
        self.memory = RefCell::new(vec![None; fields.len()]);
        self
    }

    fn variable(&self, name: &str) -> Option<Value<'a>> {
        if !self.composed_name.is_empty() && name == self.composed_name {
            return Some(Value::Composed);
        }
        self.variables.iter().rev().find(|(each, _)| *each == name).map(|(_, value)| value.clone())
    }

    fn composed(&self, field: &str, budget: &mut Budget) -> Outcome<'a> {
        let composed = self.composed;
        let Some(index) = composed.iter().position(|(name, _)| name == field) else { return Err(no_such_key(field)) };
        if let Some(known) = &self.memory.borrow()[index] {
            return known.clone();
        }
        let outcome = Evaluator::new(&composed[index].1, self, budget).value().map_err(|error| match error {
            Error::Failed(message) => {
                Error::new(format!("composited variable \"{field}\" fails to evaluate: {message}"))
            }
            other => other,
        });
        self.memory.borrow_mut()[index] = Some(outcome.clone());
        outcome
    }
}

pub(crate) struct Evaluator<'a, 'b> {
    program: &'a Program,
    activation: &'b Activation<'a>,
    /// Variables of loops, the innermost last. What is carried along may be an error, which logic can pass over.
    locals: Vec<(&'a str, Outcome<'a>)>,
    budget: &'b mut Budget,
}

fn no_such_key(key: &str) -> Error {
    Error::new(format!("no such key: {key}"))
}

impl<'a, 'b> Evaluator<'a, 'b> {
    pub(crate) fn new(program: &'a Program, activation: &'b Activation<'a>, budget: &'b mut Budget) -> Self {
        Self { program, activation, locals: Vec::new(), budget }
    }

    pub(crate) fn value(mut self) -> Outcome<'a> {
        let program = self.program;
        self.eval(&program.checked.root)
    }

    fn is_constant(&self, expr: &Expr) -> bool {
        self.program.constant[expr.id as usize]
    }

    fn eval(&mut self, expr: &'a Expr) -> Outcome<'a> {
        if is_attribute(expr) && !self.is_constant(expr) {
            self.budget.charge(1)?;
        }
        self.eval_unbased(expr)
    }

    /// `eval` without the cost of the variable or value at which a chain of selections begins.
    fn eval_unbased(&mut self, expr: &'a Expr) -> Outcome<'a> {
        self.budget.enter()?;
        let outcome = self.eval_inside(expr);
        self.budget.leave();
        outcome
    }

    fn eval_inside(&mut self, expr: &'a Expr) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => self.ident(expr.id, name),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call { function, target, arguments } => self.call(expr, function, target.as_deref(), arguments),
            Kind::List(items) => self.list(expr, items),
            Kind::Map(entries) => self.map(expr, entries),
            Kind::Struct { name, fields } => {
                let mut made = Vec::with_capacity(fields.len());
                for field in fields {
                    if let Some(value) = self.part(&field.value, field.optional)? {
                        made.push((field.name.as_str(), value));
                    }
                }
                self.budget.charge(STRUCT_COST)?;
                Ok(Value::Struct(Arc::new(Struct { name, fields: made })))
            }
            Kind::Comprehension(fold) => self.comprehension(fold),
        }
    }

    fn ident(&mut self, id: u32, name: &str) -> Outcome<'a> {
        if let Note::Type(its) = &self.program.checked.notes[id as usize] {
            return Ok(Value::Type(its.runtime_name().into()));
        }
        let global = name.strip_prefix('.');
        if global.is_none()
            && let Some((_, value)) = self.locals.iter().rev().find(|(each, _)| *each == name)
        {
            return value.clone();
        }
        let name = global.unwrap_or(name);
        self.activation.variable(name).ok_or_else(|| Error::new(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, operand: &'a Expr, field: &'a str, test: bool) -> Outcome<'a> {
        let value = self.eval_unbased(operand)?;
        if test {
            let present = self.field(&value, field)?.is_some();
            self.budget.charge(1)?;
            return Ok(present.into());
        }
        self.budget.charge(1)?;
        let (value, was_optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        match (self.field(&value, field)?, was_optional) {
            (Some(found), false) => Ok(found),
            (found, true) => Ok(Value::Optional(found.map(Arc::new))),
            (None, false) => Err(no_such_key(field)),
        }
    }

    /// A field of a value, if it has it.
    fn field(&mut self, value: &Value<'a>, field: &str) -> Result<Option<Value<'a>>, Error> {
        match value {
            Value::Map(map) => Ok(map.field(field)),
            Value::Composed => self.activation.composed(field, self.budget).map(Some),
            Value::Struct(made) => {
                Ok(made.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value.clone()))
            }
            Value::Optional(None) => Ok(None),
            Value::Optional(Some(inner)) => self.field(inner, field),
            Value::List(_) => Err(Error::new("unsupported index type 'string' in list")),
            _ => Err(Error::no_such_overload()),
        }
    }

    fn call(
        &mut self,
        expr: &'a Expr,
        function: &'a str,
        target: Option<&'a Expr>,
        arguments: &'a [Expr],
    ) -> Outcome<'a> {
        match function {
            operator::AND => return self.logical(arguments, false),
            operator::OR => return self.logical(arguments, true),
            operator::CONDITIONAL => return self.conditional(arguments),
            operator::INDEX => return self.index(arguments, false),
            operator::OPTIONAL_INDEX => return self.index(arguments, true),
            operator::OPTIONAL_SELECT => return self.optional_select(arguments),
            operator::NOT_STRICTLY_FALSE => {
                let outcome = self.eval(&arguments[0]);
                self.budget.charge(1)?;
                return match outcome {
                    Err(error) if error.is_final() => Err(error),
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    _ => Ok(Value::Bool(true)),
                };
            }
            "or" | "orValue" => return self.or(function, target, arguments),
            _ => {}
        }
        let free = self.is_constant(expr)
            || (arguments.len() == 2 && is_free_membership(function, arguments, &self.program.constant));
        let Note::Call(declared, candidates) = &self.program.checked.notes[expr.id as usize] else {
            return Err(Error::no_such_overload());
        };
        let mut given = Vec::with_capacity(arguments.len() + 1);
        for argument in target.into_iter().chain(arguments) {
            let grows = matches!(function, operator::ADD | operator::MAP_INSERT) && moves(argument);
            let value = if grows { self.budget.charge(1).and_then(|()| self.taken()) } else { self.eval(argument) }?;
            given.push(value);
        }
        let sizes = if free { 0 } else { call_cost_before(declared, candidates, &given, self.budget)? };
        let copies = (!free && needs_arguments(declared)).then(|| given.clone());
        let result = match &self.program.patterns[expr.id as usize] {
            Some(pattern) => library::regex::run(declared.name, pattern, &given)?,
            None => self.run(declared, candidates, given)?,
        };
        let cost = copies.map_or(sizes, |given| call_cost(declared.name, only(candidates), &given, Some(&result)));
        self.budget.charge(cost)?;
        Ok(result)
    }

    fn run(
        &mut self,
        declared: &'static Function,
        candidates: &[&'static Overload],
        given: Vec<Value<'a>>,
    ) -> Outcome<'a> {
        let Some(overload) = candidates.iter().find(|overload| overload.takes(&given)) else {
            let types: Vec<&str> = given.iter().map(Value::type_name).collect();
            return Err(Error::new(format!("no such overload: {}({})", declared.name, types.join(", "))));
        };
        (overload.run)(given, self.budget)
    }

    /// `&&` and `||`: what decides wins over errors, wherever it stands.
    fn logical(&mut self, arguments: &'a [Expr], decides: bool) -> Outcome<'a> {
        let mut failed = None;
        for argument in arguments {
            match self.eval(argument) {
                Ok(Value::Bool(flag)) if flag == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(Error::no_such_overload())),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn conditional(&mut self, arguments: &'a [Expr]) -> Outcome<'a> {
        let branch = match self.eval(&arguments[0])? {
            Value::Bool(true) => &arguments[1],
            Value::Bool(false) => &arguments[2],
            _ => return Err(Error::no_such_overload()),
        };
        if moves(branch) { self.taken() } else { self.eval_unbased(branch) }
    }

    fn index(&mut self, arguments: &'a [Expr], optional: bool) -> Outcome<'a> {
        let operand = self.eval_unbased(&arguments[0])?;
        let index = self.eval_unbased(&arguments[1])?;
        let (operand, optional) = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, optional),
        };
        let found = element(&operand, &index)?;
        if found.is_some() || !optional {
            self.budget.charge(1)?;
        }
        match (found, optional) {
            (Some(found), false) => Ok(found),
            (found, true) => Ok(Value::Optional(found.map(Arc::new))),
            (None, false) => Err(match (&operand, &index) {
                (Value::List(_), _) => Error::new(format!("index out of bounds: {}", library::format_value(&index))),
                _ => no_such_key(&library::format_value(&index)),
            }),
        }
    }

    fn optional_select(&mut self, arguments: &'a [Expr]) -> Outcome<'a> {
        let operand = self.eval_unbased(&arguments[0])?;
        let name = arguments[1].as_string().expect("the parser puts a name there");
        let found = self.field(&operand, name)?;
        if found.is_some() {
            self.budget.charge(1)?;
        }
        Ok(Value::Optional(found.map(Arc::new)))
    }

    fn or(&mut self, function: &str, target: Option<&'a Expr>, arguments: &'a [Expr]) -> Outcome<'a> {
        let (Some(target), [alternative]) = (target, arguments) else { return Err(Error::no_such_overload()) };
        match (self.eval(target)?, function) {
            (Value::Optional(Some(inner)), "orValue") => Ok((*inner).clone()),
            (some @ Value::Optional(Some(_)), _) => Ok(some),
            (Value::Optional(None), _) => self.eval(alternative),
            _ => Err(Error::no_such_overload()),
        }
    }

    /// The value of a part of a list, map or message; `None` where an optional one is left out.
    fn part(&mut self, expr: &'a Expr, optional: bool) -> Result<Option<Value<'a>>, Error> {
        let value = self.eval(expr)?;
        if !optional {
            return Ok(Some(value));
        }
        match value {
            Value::Optional(inner) => Ok(inner.map(|inner| (*inner).clone())),
            other => {
                let shown = library::format_value(&other);
                Err(Error::new(format!("cannot initialize optional list element from non-optional value {shown}")))
            }
        }
    }

    fn list(&mut self, expr: &Expr, items: &'a [Item]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.extend(self.part(&item.value, item.optional)?);
        }
        self.budget.charge(if self.is_constant(expr) { 0 } else { LIST_COST })?;
        Ok(Value::list(values))
    }

    fn map(&mut self, expr: &Expr, entries: &'a [Entry]) -> Outcome<'a> {
        let mut made = std::collections::BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let key = match &key {
                Value::Double(_) => None,
                other => Key::of(other),
            }
            .ok_or_else(|| Error::new(format!("unsupported key type: {}", key.type_name())))?;
            let Some(value) = self.part(&entry.value, entry.optional)? else { continue };
            let shown = library::format_value(&key.value());
            if made.insert(key, value).is_some() {
                return Err(Error::new(format!("failed with repeated key: {shown}")));
            }
        }
        self.budget.charge(if self.is_constant(expr) { 0 } else { MAP_COST })?;
        Ok(Value::Map(Map::Owned(Arc::new(made))))
    }

    /// The innermost carried value, taken out of its place so that it can grow there.
    fn taken(&mut self) -> Outcome<'a> {
        let place = self.locals.iter_mut().rev().find(|(name, _)| *name == operator::ACCUMULATOR);
        place.map_or(Err(Error::no_such_overload()), |(_, value)| std::mem::replace(value, Ok(Value::Null)))
    }

    fn comprehension(&mut self, fold: &'a Comprehension) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        let outside = self.locals.len();
        let start = self.eval(&fold.start);
        self.locals.push((&fold.accumulator, start));
        let outcome = self.fold(fold, &range, outside);
        self.locals.truncate(outside);
        outcome
    }

    fn fold(&mut self, fold: &'a Comprehension, range: &Value<'a>, place: usize) -> Outcome<'a> {
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let first = if fold.second.is_some() { Value::Int(index as i64) } else { item.clone() };
                    if !self.turn(fold, place, first, item)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = if fold.second.is_some() { map.get(&key).unwrap_or(Value::Null) } else { Value::Null };
                    if !self.turn(fold, place, key.value(), value)? {
                        break;
                    }
                }
            }
            other => return Err(Error::new(format!("got '{}', expected iterable type", other.type_name()))),
        }
        self.locals.truncate(place + 1);
        self.eval(&fold.result)
    }

    /// One turn of a loop; whether there may be another.
    fn turn(
        &mut self,
        fold: &'a Comprehension,
        place: usize,
        first: Value<'a>,
        second: Value<'a>,
    ) -> Result<bool, Error> {
        self.budget.work(1)?;
        self.locals.truncate(place + 1);
        self.locals.push((&fold.variable, Ok(first)));
        if let Some(name) = &fold.second {
            self.locals.push((name, Ok(second)));
        }
        match self.eval(&fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_final() => return Err(error),
            _ => {}
        }
        let stepped = self.eval(&fold.step);
        match &stepped {
            Err(error) if error.is_final() => return Err(error.clone()),
            // Only logic can go on after an error.
            Err(_) if !matches!(&fold.step.kind, Kind::Call { function, .. } if matches!(function.as_str(), operator::AND | operator::OR)) =>
            {
                self.locals[place].1 = stepped;
                return Ok(false);
            }
            _ => self.locals[place].1 = stepped,
        }
        Ok(true)
    }
}

/// Whether upstream counts 1 for the beginning of a chain of selections.
fn is_attribute(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Ident(_) => true,
        Kind::Select { test, .. } => !test,
        Kind::Call { function, .. } => {
            matches!(function.as_str(), operator::INDEX | operator::OPTIONAL_INDEX | operator::OPTIONAL_SELECT)
        }
        _ => false,
    }
}

/// The carried value is read once a turn, so a read may take it.
fn moves(expr: &Expr) -> bool {
    expr.as_ident() == Some(operator::ACCUMULATOR)
}

/// The form of a function where only one can be meant.
fn only<'o>(candidates: &[&'o Overload]) -> &'o str {
    match candidates {
        [overload] => &overload.id,
        _ => "",
    }
}

/// Functions whose cost is known only with their result.
fn needs_arguments(declared: &Function) -> bool {
    matches!(declared.name, "join" | "slice" | "lists.range" | "reverse" | "distinct" | "sort")
}

/// What a call costs by its arguments; told before it runs, so that what is too expensive never does.
fn call_cost_before(
    declared: &Function,
    candidates: &[&Overload],
    given: &[Value<'_>],
    budget: &Budget,
) -> Result<u64, Error> {
    let cost = call_cost(declared.name, only(candidates), given, None);
    if cost > budget.left() { Err(Error::Cost) } else { Ok(cost) }
}

/// The element of a list or map, if there is one.
fn element<'a>(operand: &Value<'a>, index: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
    match operand {
        Value::List(list) => Ok(place(index)?.and_then(|place| list.get(place))),
        Value::Map(map) => Ok(Key::of(index).and_then(|key| map.get(&key))),
        _ => Err(Error::no_such_overload()),
    }
}

/// The place in a list that a number means; `None` before its beginning.
fn place(index: &Value<'_>) -> Result<Option<usize>, Error> {
    Ok(match index {
        Value::Int(number) => usize::try_from(*number).ok(),
        Value::Uint(number) => usize::try_from(*number).ok(),
        Value::Double(number) if number.fract() == 0.0 => (*number >= 0.0).then_some(*number as usize),
        Value::Double(number) => return Err(Error::new(format!("unsupported index value {number} in list"))),
        other => return Err(Error::new(format!("unsupported index type '{}' in list", other.type_name()))),
    })
}

fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::borrowed(text),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

impl<'a> From<List<'a>> for Value<'a> {
    fn from(list: List<'a>) -> Self {
        Self::List(list)
    }
}
