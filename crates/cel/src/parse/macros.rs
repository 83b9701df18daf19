//! Calls that are written like functions and become loops, presence tests or bindings.

use super::{Parser, Step};
use crate::ast::{Comprehension, Entry, Expr, Item, Kind, Literal, operator};

/// A loop variable that nobody names.
const UNUSED: &str = "#unused";

/// The parts of a loop besides its range and its step.
struct Loop {
    start: Expr,
    condition: Expr,
    result: Expr,
}

enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

impl Parser<'_> {
    pub(super) fn global_call(&mut self, at: u32, function: String, mut arguments: Vec<Expr>) -> Step<Expr> {
        if function == "has" && arguments.len() == 1 {
            let argument = arguments.pop().expect("there is one");
            return match argument.kind {
                Kind::Select { operand, field, test: false } => {
                    self.node(at, Kind::Select { operand, field, test: true })
                }
                _ => Err(self.complain(argument.at, "invalid argument to has() macro")),
            };
        }
        self.node(at, Kind::Call { function, target: None, arguments })
    }

    pub(super) fn member_call(&mut self, at: u32, target: Expr, function: String, arguments: Vec<Expr>) -> Step<Expr> {
        let one = |quantifier| (quantifier, 2);
        let quantifier = match function.as_str() {
            "all" => Some(one(Quantifier::All)),
            "exists" => Some(one(Quantifier::Exists)),
            "exists_one" if arguments.len() == 2 => Some(one(Quantifier::ExistsOne)),
            "existsOne" => Some(one(Quantifier::ExistsOne)),
            _ => None,
        };
        if let Some((quantifier, _)) = quantifier
            && matches!(arguments.len(), 2 | 3)
        {
            return self.quantifier(at, quantifier, target, arguments);
        }
        match (function.as_str(), arguments.len()) {
            ("map", 2 | 3) => self.map(at, target, arguments),
            ("filter", 2) => self.filter(at, target, arguments),
            ("transformList", 3 | 4) => self.transform(at, target, arguments, Transform::List),
            ("transformMap", 3 | 4) => self.transform(at, target, arguments, Transform::Map),
            ("transformMapEntry", 3 | 4) => self.transform(at, target, arguments, Transform::Entry),
            ("sortBy", 2) => self.sort_by(at, target, arguments),
            ("optMap", 2) => self.optional_map(at, target, arguments, true),
            ("optFlatMap", 2) => self.optional_map(at, target, arguments, false),
            ("bind", 3) if self.with_bindings && target.as_ident() == Some("cel") => self.bind(at, arguments),
            _ => self.node(at, Kind::Call { function, target: Some(Box::new(target)), arguments }),
        }
    }

    fn ident(&mut self, at: u32, name: &str) -> Step<Expr> {
        self.node(at, Kind::Ident(name.to_owned()))
    }

    fn accumulator(&mut self, at: u32) -> Step<Expr> {
        self.ident(at, operator::ACCUMULATOR)
    }

    fn list_of(&mut self, at: u32, items: Vec<Expr>) -> Step<Expr> {
        let items = items.into_iter().map(|value| Item { value, optional: false }).collect();
        self.node(at, Kind::List(items))
    }

    /// The name that a macro's argument gives to a loop variable.
    fn variable(&self, argument: &Expr, wrong: &str) -> Step<String> {
        match argument.as_ident() {
            Some("__result__") => Err(self.complain(argument.at, "iteration variable overwrites accumulator variable")),
            Some(name) => Ok(name.to_owned()),
            None => Err(self.complain(argument.at, wrong)),
        }
    }

    /// One or two loop variables at the beginning of `arguments`, taken off them.
    fn variables(&self, arguments: &mut Vec<Expr>, two: bool) -> Step<(String, Option<String>)> {
        let wrong = "argument must be a simple name";
        let first = self.variable(&arguments[0], wrong)?;
        if !two {
            arguments.remove(0);
            return Ok((first, None));
        }
        let second = self.variable(&arguments[1], wrong)?;
        if first == second {
            return Err(self.complain(arguments[1].at, format!("duplicate variable name: {first}")));
        }
        arguments.drain(..2);
        Ok((first, Some(second)))
    }

    fn fold(
        &mut self,
        at: u32,
        range: Expr,
        variables: (String, Option<String>),
        around: Loop,
        step: Expr,
    ) -> Step<Expr> {
        let fold = Comprehension {
            range,
            variable: variables.0,
            second: variables.1,
            accumulator: operator::ACCUMULATOR.to_owned(),
            start: around.start,
            condition: around.condition,
            step,
            result: around.result,
        };
        self.node(at, Kind::Comprehension(Box::new(fold)))
    }

    /// A loop over everything that begins with `start` and gives what was carried along.
    fn collecting(&mut self, at: u32, start: Expr) -> Step<Loop> {
        Ok(Loop { start, condition: self.literal(at, Literal::Bool(true))?, result: self.accumulator(at)? })
    }

    fn quantifier(&mut self, at: u32, quantifier: Quantifier, target: Expr, mut arguments: Vec<Expr>) -> Step<Expr> {
        let two = arguments.len() == 3;
        let variables = self.variables(&mut arguments, two)?;
        let predicate = arguments.pop().expect("the predicate is left");
        let carried = self.accumulator(at)?;
        let (around, step) = match quantifier {
            Quantifier::All => {
                let condition = self.call(at, operator::NOT_STRICTLY_FALSE, vec![carried])?;
                let carried = self.accumulator(at)?;
                let step = self.call(at, operator::AND, vec![carried, predicate])?;
                (Loop { start: self.literal(at, Literal::Bool(true))?, condition, result: self.accumulator(at)? }, step)
            }
            Quantifier::Exists => {
                let negated = self.call(at, operator::NOT, vec![carried])?;
                let condition = self.call(at, operator::NOT_STRICTLY_FALSE, vec![negated])?;
                let carried = self.accumulator(at)?;
                let step = self.call(at, operator::OR, vec![carried, predicate])?;
                (
                    Loop { start: self.literal(at, Literal::Bool(false))?, condition, result: self.accumulator(at)? },
                    step,
                )
            }
            Quantifier::ExistsOne => {
                let one = self.literal(at, Literal::Int(1))?;
                let more = self.call(at, operator::ADD, vec![carried, one])?;
                let unchanged = self.accumulator(at)?;
                let step = self.call(at, operator::CONDITIONAL, vec![predicate, more, unchanged])?;
                let (count, one) = (self.accumulator(at)?, self.literal(at, Literal::Int(1))?);
                let result = self.call(at, operator::EQUALS, vec![count, one])?;
                let condition = self.literal(at, Literal::Bool(true))?;
                (Loop { start: self.literal(at, Literal::Int(0))?, condition, result }, step)
            }
        };
        self.fold(at, target, variables, around, step)
    }

    /// `step`, only where `filter` holds.
    fn filtered(&mut self, at: u32, filter: Option<Expr>, step: Expr) -> Step<Expr> {
        let Some(filter) = filter else { return Ok(step) };
        let unchanged = self.accumulator(at)?;
        self.call(at, operator::CONDITIONAL, vec![filter, step, unchanged])
    }

    fn appended(&mut self, at: u32, item: Expr) -> Step<Expr> {
        let (carried, item) = (self.accumulator(at)?, self.list_of(at, vec![item])?);
        self.call(at, operator::ADD, vec![carried, item])
    }

    fn map(&mut self, at: u32, target: Expr, mut arguments: Vec<Expr>) -> Step<Expr> {
        let variable = self.variable(&arguments[0], "argument is not an identifier")?;
        let item = arguments.pop().expect("map has two arguments or three");
        let filter = (arguments.len() == 2).then(|| arguments.pop().expect("the filter is left"));
        let step = self.appended(at, item)?;
        let step = self.filtered(at, filter, step)?;
        let start = self.list_of(at, Vec::new())?;
        let around = self.collecting(at, start)?;
        self.fold(at, target, (variable, None), around, step)
    }

    fn filter(&mut self, at: u32, target: Expr, mut arguments: Vec<Expr>) -> Step<Expr> {
        let variable = self.variable(&arguments[0], "argument is not an identifier")?;
        let filter = arguments.pop().expect("filter has two arguments");
        let item = arguments.pop().expect("the variable is left");
        let step = self.appended(at, item)?;
        let step = self.filtered(at, Some(filter), step)?;
        let start = self.list_of(at, Vec::new())?;
        let around = self.collecting(at, start)?;
        self.fold(at, target, (variable, None), around, step)
    }

    fn transform(&mut self, at: u32, target: Expr, mut arguments: Vec<Expr>, into: Transform) -> Step<Expr> {
        let variables = self.variables(&mut arguments, true)?;
        let value = arguments.pop().expect("transformations have a value");
        let filter = arguments.pop();
        let step = match into {
            Transform::List => self.appended(at, value)?,
            Transform::Map => {
                let (carried, key) = (self.accumulator(at)?, self.ident(at, &variables.0)?);
                self.call(at, operator::MAP_INSERT, vec![carried, key, value])?
            }
            Transform::Entry => {
                let carried = self.accumulator(at)?;
                self.call(at, operator::MAP_INSERT, vec![carried, value])?
            }
        };
        let step = self.filtered(at, filter, step)?;
        let start = match into {
            Transform::List => self.list_of(at, Vec::new())?,
            Transform::Map | Transform::Entry => self.node(at, Kind::Map(Vec::<Entry>::new()))?,
        };
        let around = self.collecting(at, start)?;
        self.fold(at, target, variables, around, step)
    }

    /// `name` for `value` inside `body`: a loop over nothing that only has a result.
    fn binding(&mut self, at: u32, name: &str, value: Expr, body: Expr) -> Step<Expr> {
        let fold = Comprehension {
            range: self.list_of(at, Vec::new())?,
            variable: UNUSED.to_owned(),
            second: None,
            accumulator: name.to_owned(),
            start: value,
            condition: self.literal(at, Literal::Bool(false))?,
            step: self.ident(at, name)?,
            result: body,
        };
        self.node(at, Kind::Comprehension(Box::new(fold)))
    }

    fn bind(&mut self, at: u32, mut arguments: Vec<Expr>) -> Step<Expr> {
        let body = arguments.pop().expect("bind has three arguments");
        let value = arguments.pop().expect("bind has three arguments");
        let name = match arguments[0].as_ident() {
            Some(name) => name.to_owned(),
            None => return Err(self.complain(arguments[0].at, "cel.bind() variable names must be simple identifiers")),
        };
        self.binding(at, &name, value, body)
    }

    fn sort_by(&mut self, at: u32, target: Expr, arguments: Vec<Expr>) -> Step<Expr> {
        const INPUT: &str = "@__sortBy_input__";
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err(self.complain(target.at, message));
        }
        let input = self.ident(at, INPUT)?;
        let keys = self.map(at, input, arguments)?;
        let input = self.ident(at, INPUT)?;
        let sorted = Kind::Call {
            function: operator::SORT_BY_KEYS.to_owned(),
            target: Some(Box::new(input)),
            arguments: vec![keys],
        };
        let sorted = self.node(at, sorted)?;
        self.binding(at, INPUT, target, sorted)
    }

    /// `target.hasValue() ? optional.of(body with the value) : optional.none()`.
    fn optional_map(&mut self, at: u32, target: Expr, mut arguments: Vec<Expr>, wrap: bool) -> Step<Expr> {
        let body = arguments.pop().expect("there are two arguments");
        let name = match arguments[0].as_ident() {
            Some(name) => name.to_owned(),
            None => {
                let function = if wrap { "optMap" } else { "optFlatMap" };
                return Err(
                    self.complain(arguments[0].at, format!("{function}() variable name must be a simple identifier"))
                );
            }
        };
        let copy = self.copy(&target)?;
        let has = self.node(
            at,
            Kind::Call { function: "hasValue".to_owned(), target: Some(Box::new(target)), arguments: Vec::new() },
        )?;
        let value = self.node(
            at,
            Kind::Call { function: "value".to_owned(), target: Some(Box::new(copy)), arguments: Vec::new() },
        )?;
        let bound = self.binding(at, &name, value, body)?;
        let bound = if wrap { self.call(at, "optional.of", vec![bound])? } else { bound };
        let none = self.call(at, "optional.none", Vec::new())?;
        self.call(at, operator::CONDITIONAL, vec![has, bound, none])
    }

    /// The same once more, with numbers of its own.
    fn copy(&mut self, expr: &Expr) -> Step<Expr> {
        let mut copy = expr.clone();
        self.renumber(&mut copy)?;
        Ok(copy)
    }

    fn renumber(&mut self, expr: &mut Expr) -> Step<()> {
        expr.id = self.node(expr.at, Kind::Literal(Literal::Null))?.id;
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => Ok(()),
            Kind::Select { operand, .. } => self.renumber(operand),
            Kind::Call { target, arguments, .. } => {
                target.iter_mut().map(|target| &mut **target).chain(arguments).try_for_each(|each| self.renumber(each))
            }
            Kind::List(items) => items.iter_mut().try_for_each(|item| self.renumber(&mut item.value)),
            Kind::Map(entries) => entries.iter_mut().try_for_each(|entry| {
                self.renumber(&mut entry.key)?;
                self.renumber(&mut entry.value)
            }),
            Kind::Struct { fields, .. } => fields.iter_mut().try_for_each(|field| self.renumber(&mut field.value)),
            Kind::Comprehension(fold) => {
                [&mut fold.range, &mut fold.start, &mut fold.condition, &mut fold.step, &mut fold.result]
                    .into_iter()
                    .try_for_each(|each| self.renumber(each))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Transform {
    List,
    Map,
    Entry,
}
