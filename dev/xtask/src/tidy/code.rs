//! A small reader of Rust text: blanks comments and literals, keeps lines and columns, and tells tests from product.
//! It knows no grammar; the rules above it need words and lines alone.

/// One source file, three ways. All have the lines of the original.
pub(crate) struct Code {
    /// Comments blanked.
    pub(crate) with_literals: String,
    /// Comments, strings and characters blanked.
    pub(crate) bare: String,
    /// Line numbers (1-based) from this one on are the file's tests.
    tests_from: usize,
}

impl Code {
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text, with_literals: String::new(), bare: String::new() };
        while !reader.rest.is_empty() {
            reader.step();
        }
        let tests_from = tests_from(&reader.bare);
        Self { with_literals: reader.with_literals, bare: reader.bare, tests_from }
    }

    /// Numbered lines of the product, without the tests at the file's end.
    pub(crate) fn product<'a>(&self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let tests_from = self.tests_from;
        numbered(text).take_while(move |(number, _)| *number < tests_from)
    }
}

/// Lines counted from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The line of the `#[cfg(test)]` that opens the test module, or one past every line.
fn tests_from(bare: &str) -> usize {
    let lines: Vec<&str> = bare.lines().collect();
    let opens = |index: &usize| {
        let next = lines[index + 1..].iter().find(|line| !line.trim().is_empty() && !line.trim().starts_with("#["));
        lines[*index].trim() == "#[cfg(test)]" && next.is_some_and(|line| line.trim().starts_with("mod tests"))
    };
    (0..lines.len()).find(opens).map_or(usize::MAX, |index| index + 1)
}

struct Reader<'a> {
    rest: &'a str,
    with_literals: String,
    bare: String,
}

impl Reader<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.comment(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.comment(block_comment(rest));
        } else if let Some(length) = string(rest).or_else(|| character(rest)) {
            self.literal(length);
        } else {
            self.code(word(rest));
        }
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn comment(&mut self, length: usize) {
        let blank = blank(self.take(length));
        self.with_literals.push_str(&blank);
        self.bare.push_str(&blank);
    }

    fn literal(&mut self, length: usize) {
        let text = self.take(length).to_owned();
        self.with_literals.push_str(&text);
        self.bare.push_str(&blank(&text));
    }

    fn code(&mut self, length: usize) {
        let text = self.take(length).to_owned();
        self.with_literals.push_str(&text);
        self.bare.push_str(&text);
    }
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// A whole identifier at once, so that the `r` or `b` at its end does not look like a string's prefix.
fn word(rest: &str) -> usize {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if end == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { end }
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..(at + 2).min(bytes.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Length of a string literal with its prefix and hashes, if one starts here.
fn string(rest: &str) -> Option<usize> {
    let after = rest.trim_start_matches(['b', 'c']);
    let (raw, after) = match after.strip_prefix('r') {
        Some(after) => (true, after),
        None => (false, after),
    };
    if rest.len() - after.len() > 2 {
        return None;
    }
    let opened = after.trim_start_matches('#');
    let hashes = after.len() - opened.len();
    let body = opened.strip_prefix('"').filter(|_| raw || hashes == 0)?;
    let length = if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        body.find(&end).map_or(body.len(), |at| at + end.len())
    } else {
        quoted(body, b'"')
    };
    Some(rest.len() - body.len() + length)
}

/// Length of a character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("b'").or_else(|| rest.strip_prefix('\''))?;
    let prefix = rest.len() - body.len();
    let first = body.chars().next()?;
    let closes = body[first.len_utf8()..].starts_with('\'');
    (first == '\\' || closes).then(|| prefix + quoted(body, b'\''))
}

/// Length up to and with the closing quote, over escapes.
fn quoted(body: &str, quote: u8) -> usize {
    let bytes = body.as_bytes();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, with_literals: &str, bare: &str) {
        let code = Code::read(text);
        assert_eq!((code.with_literals.as_str(), code.bare.as_str()), (with_literals, bare), "{text}");
    }

    #[test]
    fn comments_and_literals_are_told_apart() {
        check("a // b\nc", "a     \nc", "a     \nc");
        check("a /* /* b */ */ c", "a               c", "a               c");
        check(r#"f("a\"//b") // c"#, r#"f("a\"//b")     "#, "f(        )     ");
        check(r##"r#"a"b"# x"##, r##"r#"a"b"# x"##, "         x");
        check("b'\\'' 'x' &'a str", "b'\\'' 'x' &'a str", "          &'a str");
        check("br\"x\" car\"\"", "br\"x\" car\"\"", "      car  ");
    }

    #[test]
    fn tests_at_the_end_are_no_product() {
        let text = "fn a() {}\n#[cfg(test)]\nfn seam() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let code = Code::read(text);
        let lines: Vec<_> = code.product(text).map(|(number, _)| number).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }
}
