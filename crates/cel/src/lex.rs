//! From text to tokens.

mod string;

use crate::issue::Issue;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// The digits of a number, without a sign; the base is in them (`0x`).
    Int(String),
    Uint(String),
    Double(String),
    String(String),
    Bytes(Vec<u8>),
    /// An operator, a bracket, or one of the words `in`, `true`, `false`, `null`.
    Mark(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    /// In characters from the beginning.
    pub(crate) at: u32,
    /// As it was written, for complaints.
    pub(crate) text: String,
}

/// Longest first.
const MARKS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// All tokens of `source`, ended by `End`, and what could not be read.
pub(crate) fn tokens(source: &str) -> (Vec<Placed>, Vec<Issue>) {
    let mut lexer = Lexer { source, rest: source, at: 0, issues: Vec::new() };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let (at, before) = (lexer.at, lexer.rest);
        if lexer.rest.is_empty() {
            tokens.push(Placed { token: Token::End, at, text: "<EOF>".to_owned() });
            return (tokens, lexer.issues);
        }
        if let Some(token) = lexer.token() {
            let text = before[..before.len() - lexer.rest.len()].to_owned();
            tokens.push(Placed { token, at, text });
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    at: u32,
    issues: Vec<Issue>,
}

impl<'a> Lexer<'a> {
    /// Takes `bytes` off the rest.
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at += taken.chars().count() as u32;
        self.rest = rest;
        taken
    }

    fn skip_blank(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']).len();
            self.advance(blank);
            if !self.rest.starts_with("//") {
                return;
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn token(&mut self) -> Option<Token> {
        let first = self.rest.as_bytes()[0];
        if let Some(token) = self.string() {
            return token;
        }
        if first.is_ascii_digit() || (first == b'.' && self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)) {
            return Some(self.number());
        }
        if first.is_ascii_alphabetic() || first == b'_' {
            let length = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let word = self.advance(length);
            return Some(
                WORDS
                    .iter()
                    .find(|each| **each == word)
                    .map_or_else(|| Token::Ident(word.to_owned()), |word| Token::Mark(word)),
            );
        }
        if let Some(mark) = MARKS.iter().find(|mark| self.rest.starts_with(**mark)) {
            self.advance(mark.len());
            return Some(Token::Mark(mark));
        }
        let width = self.rest.chars().next().map_or(1, char::len_utf8);
        let at = self.at;
        let unknown = self.advance(width);
        self.issues.push(Issue::at(self.source, at, format!("Syntax error: token recognition error at: '{unknown}'")));
        None
    }

    fn number(&mut self) -> Token {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if bytes.starts_with(b"0x") && bytes.get(2).is_some_and(u8::is_ascii_hexdigit) {
            let length = 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            return self.whole(length);
        }
        let mut length = digits(0);
        let whole = length;
        if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits((length + 1 + sign).min(bytes.len()));
            if exponent > 0 {
                length += 1 + sign + exponent;
            }
        }
        if length > whole {
            return Token::Double(self.advance(length).to_owned());
        }
        self.whole(length)
    }

    /// An integer of `length` bytes, unsigned where a `u` follows.
    fn whole(&mut self, length: usize) -> Token {
        let text = self.advance(length).to_owned();
        if self.rest.starts_with(['u', 'U']) {
            self.advance(1);
            return Token::Uint(text);
        }
        Token::Int(text)
    }

    /// A string or bytes, if one begins here; the inner `None` where it is written wrongly.
    fn string(&mut self) -> Option<Option<Token>> {
        let (length, is_bytes, is_raw, quote) = string::extent(self.rest)?;
        let at = self.at;
        let Some(length) = length else {
            let unknown = self.advance(self.rest.len());
            self.issues.push(Issue::at(
                self.source,
                at,
                format!("Syntax error: token recognition error at: '{unknown}'"),
            ));
            return Some(None);
        };
        let prefix = usize::from(is_bytes) + usize::from(is_raw);
        let text = self.advance(length);
        let inside = &text[prefix + quote..length - quote];
        match string::unescape(inside, is_bytes, is_raw) {
            Ok(bytes) if is_bytes => Some(Some(Token::Bytes(bytes))),
            Ok(bytes) => {
                Some(Some(Token::String(String::from_utf8(bytes).expect("escapes of strings are whole characters"))))
            }
            Err(message) => {
                self.issues.push(Issue::at(self.source, at, message));
                Some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> String {
        let (tokens, issues) = tokens(source);
        let shown: Vec<String> = tokens.iter().map(|placed| format!("{:?}@{}", placed.token, placed.at)).collect();
        let wrong: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
        format!("{} {}", shown.join(" "), wrong.join("; ")).trim_end().to_owned()
    }

    #[test]
    fn tokens_are_told_apart() {
        assert_eq!(read("a.b // c"), r#"Ident("a")@0 Mark(".")@1 Ident("b")@2 End@8"#);
        assert_eq!(
            read("1 2u 0x1F 1.5 2e3 .5"),
            r#"Int("1")@0 Uint("2")@2 Int("0x1F")@5 Double("1.5")@10 Double("2e3")@14 Double(".5")@18 End@20"#
        );
        assert_eq!(read("1.size()"), r#"Int("1")@0 Mark(".")@1 Ident("size")@2 Mark("(")@6 Mark(")")@7 End@8"#);
        assert_eq!(read("x in inner"), r#"Ident("x")@0 Mark("in")@2 Ident("inner")@5 End@10"#);
    }

    #[test]
    fn strings_are_unescaped() {
        assert_eq!(read(r#"'a\n\x41\u00e9\101'"#), "String(\"a\\nAéA\")@0 End@19");
        assert_eq!(read(r#"r'a\n' b"\xff" br'\x'"#), r#"String("a\\n")@0 Bytes([255])@7 Bytes([92, 120])@15 End@21"#);
        assert_eq!(read("'''a'b''' ''"), r#"String("a'b")@0 String("")@10 End@12"#);
        assert_eq!(read(r"'\q'"), "End@4 unable to unescape string");
        assert_eq!(read("'é' x"), "String(\"é\")@0 Ident(\"x\")@4 End@5");
    }

    #[test]
    fn what_is_no_token_is_told() {
        assert_eq!(read("a $"), r#"Ident("a")@0 End@3 Syntax error: token recognition error at: '$'"#);
        assert_eq!(read("'open"), "End@5 Syntax error: token recognition error at: ''open'");
    }
}
