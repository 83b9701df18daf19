//! A compiled expression.

use regex::Regex;

use crate::ast::{Expr, Kind, operator};
use crate::budget::{Budget, Error};
use crate::check::{Checked, Note};
use crate::evaluate::{Activation, Evaluator};
use crate::issue::Issue;
use crate::library::{conversion, regex::compile};
use crate::types::Type;
use crate::value::Value;

/// An expression that is in order, ready to be evaluated any number of times.
#[derive(Debug)]
pub struct Program {
    pub(crate) checked: Checked,
    /// By node: whether it gives the same every time and so costs nothing.
    pub(crate) constant: Vec<bool>,
    /// By node: the pattern of a call that names it itself.
    pub(crate) patterns: Vec<Option<Regex>>,
    source: String,
}

impl Program {
    pub(crate) fn new(source: &str, checked: Checked) -> Result<Self, Vec<Issue>> {
        let mut constant = vec![false; checked.notes.len()];
        mark_constants(&checked.root, &checked.notes, &mut constant);
        let mut patterns = vec![None; checked.notes.len()];
        let mut issues = Vec::new();
        checked.root.walk(&mut |expr| {
            if let Err(message) = check_literals(expr, &mut patterns) {
                issues.push(Issue::at(source, argument_at(expr), message));
            }
        });
        if issues.is_empty() {
            Ok(Self { checked, constant, patterns, source: source.to_owned() })
        } else {
            Err(issues)
        }
    }

    /// The type of what it gives.
    pub fn result(&self) -> &Type {
        &self.checked.types[self.checked.root.id as usize]
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it speaks of the variable `name`.
    pub fn mentions(&self, name: &str) -> bool {
        let mut found = false;
        self.checked.root.walk(&mut |expr| found |= expr.as_ident() == Some(name));
        found
    }

    /// Evaluates it. What it costs is taken off the budget.
    pub fn evaluate<'a>(&'a self, activation: &Activation<'a>, budget: &mut Budget) -> Result<Value<'a>, Error> {
        budget.begin();
        let value = Evaluator::new(self, activation, budget).value();
        budget.end()?;
        value
    }
}

fn argument_at(expr: &Expr) -> u32 {
    match &expr.kind {
        Kind::Call { arguments, .. } => arguments.last().map_or(expr.at, |argument| argument.at),
        _ => expr.at,
    }
}

/// Literals that no run could use are refused; patterns are prepared.
fn check_literals(expr: &Expr, patterns: &mut [Option<Regex>]) -> Result<(), &'static str> {
    let Kind::Call { function, target, arguments } = &expr.kind else { return Ok(()) };
    let literal = |index: usize| arguments.get(index).and_then(Expr::as_string);
    match (function.as_str(), target, arguments.len()) {
        ("matches", Some(_), 1) | ("find", Some(_), 1) | ("findAll", Some(_), 1 | 2) => {
            prepare(literal(0), expr.id, patterns)
        }
        ("matches", None, 2) => prepare(literal(1), expr.id, patterns),
        ("duration", None, 1) if literal(0).is_some_and(|text| conversion::duration(text).is_none()) => {
            Err("invalid duration argument")
        }
        ("timestamp", None, 1) if literal(0).is_some_and(|text| conversion::timestamp(text).is_none()) => {
            Err("invalid timestamp argument")
        }
        _ => Ok(()),
    }
}

fn prepare(pattern: Option<&str>, id: u32, patterns: &mut [Option<Regex>]) -> Result<(), &'static str> {
    let Some(pattern) = pattern else { return Ok(()) };
    patterns[id as usize] = Some(compile(pattern).map_err(|_| "invalid matches argument")?);
    Ok(())
}

/// Conversions whose value is known before the run if that of their argument is.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

fn mark_constants(expr: &Expr, notes: &[Note], constant: &mut [bool]) -> bool {
    let mut mark = |each: &Expr| mark_constants(each, notes, constant);
    let its = match &expr.kind {
        Kind::Literal(_) => true,
        Kind::Ident(_) => matches!(notes[expr.id as usize], Note::Type(_)),
        Kind::Select { operand, .. } => {
            mark(operand);
            false
        }
        // Every part is looked at, for the sake of those below.
        Kind::List(items) => items.iter().fold(true, |all, item| mark(&item.value) & !item.optional & all),
        Kind::Map(entries) => {
            entries.iter().fold(true, |all, entry| mark(&entry.key) & mark(&entry.value) & !entry.optional & all)
        }
        Kind::Struct { fields, .. } => fields.iter().fold(false, |_, field| mark(&field.value)) & false,
        Kind::Call { function, target, arguments } => {
            let of_constants =
                target.iter().map(|target| &**target).chain(arguments).fold(true, |all, each| mark(each) & all);
            of_constants && target.is_none() && arguments.len() == 1 && CONVERSIONS.contains(&function.as_str())
        }
        Kind::Comprehension(fold) => {
            [&fold.range, &fold.start, &fold.condition, &fold.step, &fold.result]
                .into_iter()
                .fold(false, |_, each| mark(each))
                & false
        }
    };
    constant[expr.id as usize] = its;
    its
}

/// Whether a membership test is against constants alone, which upstream makes free.
pub(crate) fn is_free_membership(function: &str, arguments: &[Expr], constant: &[bool]) -> bool {
    function == operator::IN && matches!(&arguments[1].kind, Kind::List(_)) && constant[arguments[1].id as usize]
}
