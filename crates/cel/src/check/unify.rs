//! Which type may stand where another is expected, and what that says of type variables.

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::Type;

/// What is known of type variables. An attempt that fails leaves nothing behind.
#[derive(Default)]
pub(super) struct Mapping {
    bound: HashMap<Arc<str>, Type>,
    /// What attempts changed, for taking it back.
    trail: Vec<(Arc<str>, Option<Type>)>,
}

impl Mapping {
    /// Whether each of `given` may stand for its place in `expected`; remembers what follows for variables.
    pub(super) fn assignable(&mut self, given: &[Type], expected: &[Type]) -> bool {
        self.trail.clear();
        let fits = given.len() == expected.len()
            && given.iter().zip(expected).all(|(given, expected)| self.fits(given, expected));
        if !fits {
            while let Some((name, former)) = self.trail.pop() {
                match former {
                    Some(former) => self.bound.insert(name, former),
                    None => self.bound.remove(&name),
                };
            }
        }
        fits
    }

    fn bind(&mut self, name: &Arc<str>, to: Type) {
        let former = self.bound.insert(name.clone(), to);
        self.trail.push((name.clone(), former));
    }

    fn fits(&mut self, first: &Type, second: &Type) -> bool {
        if let Type::Param(name) = second {
            match self.substitutes(first, second, name) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(name) = first {
            return self.substitutes(second, first, name).0;
        }
        if first.is_dyn_or_error() || second.is_dyn_or_error() {
            return true;
        }
        match (first, second) {
            (Type::Null, other) | (other, Type::Null) => other.takes_null(),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(one), Type::List(other)) => self.fits(one, other),
            (Type::Map(one), Type::Map(other)) => self.fits(&one.0, &other.0) && self.fits(&one.1, &other.1),
            (Type::Opaque(one, ones), Type::Opaque(other, others)) => {
                one == other
                    && ones.len() == others.len()
                    && ones.iter().zip(&**others).all(|(one, other)| self.fits(one, other))
            }
            _ => first == second,
        }
    }

    /// Whether the variable `name` may mean `meaning`, and whether it meant something before.
    fn substitutes(&mut self, meaning: &Type, variable: &Type, name: &Arc<str>) -> (bool, bool) {
        if meaning == variable {
            return (true, true);
        }
        if let Some(known) = self.bound.get(name).cloned() {
            if *meaning == known {
                return (true, true);
            }
            if !self.fits(meaning, &known) {
                return (false, true);
            }
            let general = most_general(meaning, &known).clone();
            if !self.occurs(name, &general) {
                self.bind(name, general);
            }
            return (true, true);
        }
        let free = !self.occurs(name, meaning);
        if free {
            self.bind(name, meaning.clone());
        }
        (free, false)
    }

    /// Whether the variable is part of `within`, directly or by what is known.
    fn occurs(&self, name: &Arc<str>, within: &Type) -> bool {
        match within {
            Type::Param(other) if other == name => true,
            Type::Param(other) => self.bound.get(other).is_some_and(|known| self.occurs(name, known)),
            _ => within.parameters().into_iter().any(|part| self.occurs(name, part)),
        }
    }

    /// `of` with everything known put in; with `to_dyn`, what is not known becomes dynamic.
    pub(super) fn substitute(&self, of: &Type, to_dyn: bool) -> Type {
        match of {
            Type::Param(name) => match self.bound.get(name) {
                Some(known) => self.substitute(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => of.clone(),
            },
            _ => of.with_parameters(|part| self.substitute(part, to_dyn)),
        }
    }
}

/// The more general of two types that fit together.
pub(super) fn most_general<'a>(first: &'a Type, second: &'a Type) -> &'a Type {
    if less_specific(first, second) { first } else { second }
}

fn less_specific(first: &Type, second: &Type) -> bool {
    let open = |each: &Type| each.is_dyn() || matches!(each, Type::Param(_));
    if open(first) {
        return true;
    }
    if open(second) {
        return false;
    }
    match (first, second) {
        (Type::Type(_), Type::Type(_)) => true,
        (Type::List(one), Type::List(other)) => less_specific(one, other),
        (Type::Map(one), Type::Map(other)) => less_specific(&one.0, &other.0) && less_specific(&one.1, &other.1),
        (Type::Opaque(one, ones), Type::Opaque(other, others)) => {
            one == other
                && ones.len() == others.len()
                && ones.iter().zip(&**others).all(|(one, other)| less_specific(one, other))
        }
        _ => first == second,
    }
}
