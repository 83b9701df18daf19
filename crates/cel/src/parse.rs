//! From tokens to the tree: recursive descent, with macros expanded on the way.
//!
//! Expressions come from strangers, so text, nesting and the size of the tree have limits: whatever passes here can be walked
//! recursively.

mod macros;

use crate::ast::{Entry, Expr, Field, Item, Kind, Literal, operator};
use crate::issue::Issue;
use crate::lex::{Placed, Token, tokens};

/// Upstream's limits of the text and of the tree.
const SOURCE_CHARACTERS_MAX: usize = 100_000;
const DEPTH_MAX: u32 = 250;
/// Expressions inside one another, as parentheses and brackets make them.
const NESTING_MAX: u32 = 100;
/// Nodes of one tree. Macros that repeat their target could grow without it.
const NODES_MAX: u32 = 200_000;

/// Words that are no identifiers, though fields may be called so.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What an expression can begin with, as complaints list it.
const BEGINNINGS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// An expression's tree and how many nodes were numbered.
pub(crate) struct Parsed {
    pub(crate) root: Expr,
    pub(crate) nodes: u32,
}

/// Reads an expression.
pub(crate) fn parse(source: &str, with_bindings: bool) -> Result<Parsed, Vec<Issue>> {
    let size = source.chars().count();
    if size > SOURCE_CHARACTERS_MAX {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {SOURCE_CHARACTERS_MAX}");
        return Err(vec![Issue::whole(message)]);
    }
    let (tokens, mut issues) = tokens(source);
    let mut parser = Parser { source, tokens, next: 0, nodes: 0, depth: 0, with_bindings };
    let outcome = parser.expression().and_then(|root| parser.ended().map(|()| root));
    match outcome {
        Ok(root) if issues.is_empty() => Ok(Parsed { root, nodes: parser.nodes }),
        Ok(_) => Err(issues),
        Err(issue) => {
            issues.push(issue);
            Err(issues)
        }
    }
}

type Step<T> = Result<T, Issue>;

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Placed>,
    next: usize,
    nodes: u32,
    depth: u32,
    with_bindings: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn at(&self) -> u32 {
        self.tokens[self.next].at
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if *found == mark)
    }

    /// Takes the next token. The last one, the end, is never passed.
    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].token.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    /// Takes `mark` if it is next; says where it was.
    fn accept(&mut self, mark: &str) -> Option<u32> {
        let at = self.at();
        self.is(mark).then(|| {
            self.take();
            at
        })
    }

    fn expect(&mut self, mark: &str) -> Step<u32> {
        match self.accept(mark) {
            Some(at) => Ok(at),
            None => Err(self.unexpected(&format!("'{mark}'"))),
        }
    }

    fn unexpected(&self, expected: &str) -> Issue {
        let text = &self.tokens[self.next].text;
        let extraneous = expected == "<EOF>" && self.next + 2 == self.tokens.len();
        let how = if extraneous { "extraneous" } else { "mismatched" };
        self.complain(self.at(), format!("Syntax error: {how} input '{text}' expecting {expected}"))
    }

    fn complain(&self, at: u32, message: impl Into<String>) -> Issue {
        Issue::at(self.source, at, message)
    }

    fn ended(&self) -> Step<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("<EOF>")) }
    }

    /// A node of the tree, within the limits.
    fn node(&mut self, at: u32, kind: Kind) -> Step<Expr> {
        let depth = kind.depth_below() + 1;
        if depth > DEPTH_MAX {
            return Err(Issue::whole(format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        let id = self.nodes;
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Issue::whole(format!("expression is too large: more than {NODES_MAX} parts")));
        }
        Ok(Expr { id, at, depth, kind })
    }

    fn literal(&mut self, at: u32, literal: Literal) -> Step<Expr> {
        self.node(at, Kind::Literal(literal))
    }

    fn call(&mut self, at: u32, function: &str, arguments: Vec<Expr>) -> Step<Expr> {
        self.node(at, Kind::Call { function: function.to_owned(), target: None, arguments })
    }

    /// A whole expression, one level deeper than the one around it.
    fn expression(&mut self) -> Step<Expr> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Issue::whole(format!("expression recursion limit exceeded: {NESTING_MAX}")));
        }
        let condition = self.binary(0)?;
        let whole = match self.accept("?") {
            None => condition,
            Some(at) => {
                let then = self.binary(0)?;
                self.expect(":")?;
                let otherwise = self.expression()?;
                self.call(at, operator::CONDITIONAL, vec![condition, then, otherwise])?
            }
        };
        self.depth -= 1;
        Ok(whole)
    }

    /// Operators of at least this strength. Those of logic join any number of terms as one call, others two from the left.
    fn binary(&mut self, strength: usize) -> Step<Expr> {
        let mut left = self.unary()?;
        loop {
            let Some((function, its_strength)) = self.operator().filter(|(_, its)| *its >= strength) else {
                return Ok(left);
            };
            let at = self.at();
            if matches!(function, operator::OR | operator::AND) {
                let mut terms = vec![left];
                while self.operator().is_some_and(|(next, _)| next == function) {
                    self.take();
                    terms.push(self.binary(its_strength + 1)?);
                }
                left = self.call(at, function, terms)?;
                continue;
            }
            self.take();
            let right = self.binary(its_strength + 1)?;
            left = self.call(at, function, vec![left, right])?;
        }
    }

    fn operator(&self) -> Option<(&'static str, usize)> {
        let Token::Mark(mark) = self.peek() else { return None };
        Some(match *mark {
            "||" => (operator::OR, 0),
            "&&" => (operator::AND, 1),
            "==" => (operator::EQUALS, 2),
            "!=" => (operator::NOT_EQUALS, 2),
            "<" => ("_<_", 2),
            "<=" => ("_<=_", 2),
            ">" => ("_>_", 2),
            ">=" => ("_>=_", 2),
            "in" => (operator::IN, 2),
            "+" => (operator::ADD, 3),
            "-" => ("_-_", 3),
            "*" => ("_*_", 4),
            "/" => ("_/_", 4),
            "%" => ("_%_", 4),
            _ => return None,
        })
    }

    /// Signs before a member. A pair of equal ones means nothing, and a minus belongs to the number that follows it.
    fn unary(&mut self) -> Step<Expr> {
        let (mark, function) = match self.peek() {
            Token::Mark("!") => ("!", operator::NOT),
            Token::Mark("-") => ("-", operator::NEGATE),
            _ => return self.member(),
        };
        let (at, first) = (self.at(), self.next);
        while self.accept(mark).is_some() {}
        let mut count = self.next - first;
        if mark == "-" && matches!(self.peek(), Token::Int(_) | Token::Double(_)) {
            self.next -= 1;
            count -= 1;
        }
        let operand = self.member()?;
        if count.is_multiple_of(2) { Ok(operand) } else { self.call(at, function, vec![operand]) }
    }

    fn member(&mut self) -> Step<Expr> {
        let mut operand = self.primary()?;
        loop {
            if let Some(at) = self.accept(".") {
                let optional = self.accept("?").is_some();
                let field = self.field_name()?;
                operand = if optional {
                    let name = self.literal(at, Literal::String(field))?;
                    self.call(at, operator::OPTIONAL_SELECT, vec![operand, name])?
                } else if let Some(at) = self.accept("(") {
                    let arguments = self.arguments()?;
                    self.member_call(at, operand, field, arguments)?
                } else {
                    self.node(at, Kind::Select { operand: Box::new(operand), field, test: false })?
                };
            } else if let Some(at) = self.accept("[") {
                let optional = self.accept("?").is_some();
                let index = self.expression()?;
                self.expect("]")?;
                let function = if optional { operator::OPTIONAL_INDEX } else { operator::INDEX };
                operand = self.call(at, function, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn field_name(&mut self) -> Step<String> {
        match self.peek() {
            Token::Ident(_) => {}
            _ => return Err(self.unexpected("IDENTIFIER")),
        }
        let Token::Ident(name) = self.take() else { unreachable!("looked at above") };
        Ok(name)
    }

    /// The arguments of a call after its parenthesis.
    fn arguments(&mut self) -> Step<Vec<Expr>> {
        let mut arguments = Vec::new();
        if self.accept(")").is_some() {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn primary(&mut self) -> Step<Expr> {
        let at = self.at();
        match self.peek() {
            Token::Mark("(") => {
                self.take();
                let inside = self.expression()?;
                self.expect(")")?;
                Ok(inside)
            }
            Token::Mark("[") => self.list(),
            Token::Mark("{") => {
                self.take();
                let entries = self.entries()?;
                self.node(at, Kind::Map(entries))
            }
            Token::Mark(".") | Token::Ident(_) => self.named(),
            _ => self.constant(),
        }
    }

    fn constant(&mut self) -> Step<Expr> {
        let at = self.at();
        let negative = self.is("-") && matches!(self.tokens[self.next + 1].token, Token::Int(_) | Token::Double(_));
        if negative {
            self.take();
        }
        let literal = match self.peek() {
            Token::Mark("true") => Literal::Bool(true),
            Token::Mark("false") => Literal::Bool(false),
            Token::Mark("null") => Literal::Null,
            Token::Int(digits) => int(digits, negative).ok_or_else(|| self.complain(at, "invalid int literal"))?,
            Token::Uint(digits) => uint(digits).ok_or_else(|| self.complain(at, "invalid uint literal"))?,
            Token::Double(digits) => {
                double(digits, negative).ok_or_else(|| self.complain(at, "invalid double literal"))?
            }
            Token::String(text) => Literal::String(text.clone()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.clone()),
            _ => return Err(self.unexpected(BEGINNINGS)),
        };
        self.take();
        self.literal(at, literal)
    }

    fn list(&mut self) -> Step<Expr> {
        let at = self.expect("[")?;
        let mut items = Vec::new();
        while self.accept("]").is_none() {
            let optional = self.accept("?").is_some();
            items.push(Item { value: self.expression()?, optional });
            if self.accept(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Kind::List(items))
    }

    /// The entries of a map after its brace.
    fn entries(&mut self) -> Step<Vec<Entry>> {
        let mut entries = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, optional });
            if self.accept(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }

    /// An identifier, a call of a function, or a message: `Type.name{field: value}`.
    fn named(&mut self) -> Step<Expr> {
        let leading = self.accept(".").is_some();
        let at = self.at();
        let name = self.field_name()?;
        let full = if leading { format!(".{name}") } else { name.clone() };
        if let Some(message) = self.message_name(&full) {
            let at = self.expect("{")?;
            let fields = self.fields()?;
            return self.node(at, Kind::Struct { name: message, fields });
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(self.complain(at, format!("reserved identifier: {name}")));
        }
        match self.accept("(") {
            Some(at) => {
                let arguments = self.arguments()?;
                self.global_call(at, full, arguments)
            }
            None => self.node(at, Kind::Ident(full)),
        }
    }

    /// The whole name of a message, if one begins here; its tokens up to the brace are taken then.
    fn message_name(&mut self, first: &str) -> Option<String> {
        let (mut name, mut next) = (first.to_owned(), self.next);
        loop {
            match (&self.tokens[next].token, self.tokens.get(next + 1).map(|placed| &placed.token)) {
                (Token::Mark("{"), _) => {
                    self.next = next;
                    return Some(name);
                }
                (Token::Mark("."), Some(Token::Ident(part))) => {
                    name.push('.');
                    name.push_str(part);
                    next += 2;
                }
                _ => return None,
            }
        }
    }

    fn fields(&mut self) -> Step<Vec<Field>> {
        let mut fields = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let name = self.field_name()?;
            let at = self.expect(":")?;
            fields.push(Field { at, name, value: self.expression()?, optional });
            if self.accept(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }
}

fn int(digits: &str, negative: bool) -> Option<Literal> {
    let (digits, base) = digits.strip_prefix("0x").map_or((digits, 10), |hex| (hex, 16));
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    i64::from_str_radix(&signed, base).ok().map(Literal::Int)
}

fn uint(digits: &str) -> Option<Literal> {
    let (digits, base) = digits.strip_prefix("0x").map_or((digits, 10), |hex| (hex, 16));
    u64::from_str_radix(digits, base).ok().map(Literal::Uint)
}

fn double(digits: &str, negative: bool) -> Option<Literal> {
    let value: f64 = digits.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(Literal::Double(if negative { -value } else { value }))
}
