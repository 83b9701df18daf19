//! The text form of label selectors: a lexer and a parser with one token of look-ahead. `in` and `notin` are operators
//! only where an operator is expected.

use super::{Operator, Requirement};
use crate::field::{FieldErrors, FieldPath};
use crate::name;
use crate::selector::SelectorError;
use crate::value::Str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Identifier,
    Close,
    Open,
    Comma,
    Not,
    Operator(Operator),
}

/// The operators as error texts list them.
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { tokens: scan(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.look() {
            (Token::Identifier | Token::Not, _) => {
                let requirement = parser.requirement();
                requirements
                    .push(requirement.map_err(|SelectorError(text)| {
                        SelectorError(format!("unable to parse requirement: {text}"))
                    })?);
            }
            (Token::End, _) => return Ok(requirements),
            (_, literal) => return error(format!("found '{literal}', expected: !, identifier, or 'end of string'")),
        }
        match parser.next() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => {
                let (token, literal) = parser.look();
                if !matches!(token, Token::Identifier | Token::Not) {
                    return error(format!("found '{literal}', expected: identifier after ','"));
                }
            }
            (_, literal) => return error(format!("found '{literal}', expected: ',' or 'end of string'")),
        }
    }
}

struct Parser<'a> {
    /// Ends with [`Token::End`], which is never consumed twice.
    tokens: Vec<(Token, &'a str)>,
    position: usize,
}

impl<'a> Parser<'a> {
    /// The next token where a key or a value is expected.
    fn look(&self) -> (Token, &'a str) {
        match self.tokens[self.position.min(self.tokens.len() - 1)] {
            (Token::Operator(Operator::In | Operator::NotIn), literal) => (Token::Identifier, literal),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, &'a str) {
        let token = self.look();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return error(format!("found '{key}', expected: identifier"));
        }
        check_key(key)?;
        if negated {
            return Requirement::new(key.into(), Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.look().0, Token::End | Token::Comma) {
            return Requirement::new(key.into(), Operator::Exists, Vec::new());
        }
        let (token, literal) = self.tokens[self.position];
        self.position += 1;
        let Token::Operator(operator) = token else {
            return error(format!("found '{literal}', expected: {OPERATORS}"));
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.value()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(key.into(), operator, values)
    }

    fn value(&mut self) -> Result<Str, SelectorError> {
        if matches!(self.look().0, Token::End | Token::Comma) {
            return Ok(Str::default());
        }
        match self.next() {
            (Token::Identifier, value) => Ok(value.into()),
            (_, literal) => error(format!("found '{literal}', expected: identifier")),
        }
    }

    /// `(a,b)`; nothing between commas is the empty value.
    fn set(&mut self) -> Result<Vec<Str>, SelectorError> {
        let (token, literal) = self.next();
        if token != Token::Open {
            return error(format!("found '{literal}' expected: '('"));
        }
        match self.look() {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.next();
                return Ok(vec![Str::default()]);
            }
            (_, literal) => return error(format!("found '{literal}', expected: ',', ')' or identifier")),
        }
        let values = self.identifiers()?;
        self.next();
        Ok(values)
    }

    /// Stops before the closing parenthesis.
    fn identifiers(&mut self) -> Result<Vec<Str>, SelectorError> {
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.push(value.into());
                    match self.look() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, literal) => return error(format!("found '{literal}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(Str::default());
                    }
                    match self.look().0 {
                        Token::Close => {
                            values.push(Str::default());
                            return Ok(values);
                        }
                        Token::Comma => values.push(Str::default()),
                        _ => {}
                    }
                }
                (_, literal) => return error(format!("found '{literal}', expected: ',', or identifier")),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let reasons = name::qualified_name(key);
    if reasons.is_empty() {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    errors.invalid(&FieldPath::root(), key, reasons.join("; "));
    error(errors.to_string())
}

fn error<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError(text))
}

fn scan(text: &str) -> Vec<(Token, &str)> {
    let special = |byte: u8| b"=!(),><".contains(&byte);
    let space = |byte: u8| b" \t\r\n".contains(&byte);
    // As upstream, a zero byte ends the text.
    let text = text.split('\0').next().unwrap_or_default();
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.bytes().next() else { break };
        let length = if special(first) {
            symbol_length(rest)
        } else {
            rest.bytes().position(|byte| special(byte) || space(byte)).unwrap_or(rest.len())
        };
        let (literal, after) = rest.split_at(length);
        tokens.push((token_of(literal), literal));
        rest = after;
    }
    tokens.push((Token::End, ""));
    tokens
}

fn symbol_length(text: &str) -> usize {
    if text.starts_with("==") || text.starts_with("!=") { 2 } else { 1 }
}

fn token_of(literal: &str) -> Token {
    match literal {
        ")" => Token::Close,
        "(" => Token::Open,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" => Token::Operator(Operator::Equals),
        "==" => Token::Operator(Operator::DoubleEquals),
        "!=" => Token::Operator(Operator::NotEquals),
        ">" => Token::Operator(Operator::GreaterThan),
        "<" => Token::Operator(Operator::LessThan),
        "in" => Token::Operator(Operator::In),
        "notin" => Token::Operator(Operator::NotIn),
        _ => Token::Identifier,
    }
}
