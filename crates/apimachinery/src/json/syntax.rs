//! Why a text is no JSON, in the words of Go's `encoding/json`, which clients of Kubernetes know. Runs only over a text
//! that was refused.

/// The end of the text where more was expected.
const END: &str = "unexpected end of JSON input";

/// The first fault of a text; `None` where Go would find none.
pub(super) fn fault(text: &[u8]) -> Option<String> {
    let mut reader = Reader { text, at: 0 };
    reader.document().err()
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

type Read = Result<(), String>;

/// What an open array or object waits for.
#[derive(Clone, Copy)]
enum Open {
    Array,
    Object,
}

impl Reader<'_> {
    fn document(&mut self) -> Read {
        let mut open: Vec<Open> = Vec::new();
        loop {
            if self.begin(&mut open)? {
                continue;
            }
            // A value has ended: so may what holds it.
            loop {
                let Some(holder) = open.last() else { return self.nothing_more() };
                match (holder, self.next()?) {
                    (_, b',') => {
                        self.at += 1;
                        if matches!(holder, Open::Object) {
                            self.key()?;
                        }
                        break;
                    }
                    (Open::Array, b']') | (Open::Object, b'}') => {
                        self.at += 1;
                        open.pop();
                    }
                    (Open::Array, byte) => return Err(invalid(byte, "after array element")),
                    (Open::Object, byte) => return Err(invalid(byte, "after object key:value pair")),
                }
            }
        }
    }

    /// Reads a value, or opens one that is not empty: then `true`, and what it holds comes next.
    fn begin(&mut self, open: &mut Vec<Open>) -> Result<bool, String> {
        match self.next()? {
            b'{' => {
                self.at += 1;
                if self.next()? == b'}' {
                    self.at += 1;
                    return Ok(false);
                }
                self.key()?;
                open.push(Open::Object);
                Ok(true)
            }
            b'[' => {
                self.at += 1;
                if self.next()? == b']' {
                    self.at += 1;
                    return Ok(false);
                }
                open.push(Open::Array);
                Ok(true)
            }
            b'"' => self.string().map(|()| false),
            b't' => self.literal("true").map(|()| false),
            b'f' => self.literal("false").map(|()| false),
            b'n' => self.literal("null").map(|()| false),
            b'-' | b'0'..=b'9' => self.number().map(|()| false),
            byte => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Result<u8, String> {
        while self.text.get(self.at).is_some_and(|byte| b" \t\r\n".contains(byte)) {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Result<u8, String> {
        self.text.get(self.at).copied().ok_or_else(|| END.to_owned())
    }

    fn nothing_more(&mut self) -> Read {
        match self.next() {
            Ok(byte) => Err(invalid(byte, "after top-level value")),
            Err(_) => Ok(()),
        }
    }

    fn key(&mut self) -> Read {
        match self.next()? {
            b'"' => self.string()?,
            byte => return Err(invalid(byte, "looking for beginning of object key string")),
        }
        match self.next()? {
            b':' => self.at += 1,
            byte => return Err(invalid(byte, "after object key")),
        }
        Ok(())
    }

    fn string(&mut self) -> Read {
        self.at += 1;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0..0x20 => return Err(invalid(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Read {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => (0..4).try_for_each(|_| {
                let digit = self.peek()?;
                self.at += 1;
                let hex = digit.is_ascii_hexdigit();
                if hex { Ok(()) } else { Err(invalid(digit, "in \\u hexadecimal character escape")) }
            }),
            byte => Err(invalid(byte, "in string escape code")),
        }
    }

    fn literal(&mut self, word: &str) -> Read {
        for expected in word.bytes() {
            let byte = self.peek()?;
            if byte != expected {
                let place = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(invalid(byte, &place));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Read {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self, place: &str) -> Read {
        let byte = self.peek()?;
        if !byte.is_ascii_digit() {
            return Err(invalid(byte, place));
        }
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }
}

fn invalid(byte: u8, place: &str) -> String {
    format!("invalid character {} {place}", quoted(byte))
}

/// A byte as Go quotes it: as the character of that number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0x20..0x7f | 0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_go_tells_them() {
        let check = |text: &str, expect: &str| assert_eq!(fault(text.as_bytes()).unwrap_or_default(), expect, "{text}");
        for whole in ["{}", " [1, -2.5e+3, \"a\\u00e9\\n\", true, null, {\"a\": {\"b\": []}}] ", "0", "\"\""] {
            check(whole, "");
        }
        for cut in ["", " ", "{", "{\"a\"", "{\"a\":", "[1,", "\"a", "\"\\u00", "tru", "-", "1.", "1e"] {
            check(cut, END);
        }
        check("{1:2}", "invalid character '1' looking for beginning of object key string");
        check("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
        check("{} {}", "invalid character '{' after top-level value");
        check("nonsense", "invalid character 'o' in literal null (expecting 'u')");
        check("[1 2]", "invalid character '2' after array element");
        check("[1,]", "invalid character ']' looking for beginning of value");
        check("{\"a\" 1}", "invalid character '1' after object key");
        check("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair");
        check("\"\n\"", "invalid character '\\n' in string literal");
        check("\"\\x\"", "invalid character 'x' in string escape code");
        check("\"\\u00g\"", "invalid character 'g' in \\u hexadecimal character escape");
        check("-a", "invalid character 'a' in numeric literal");
        check("1.a", "invalid character 'a' after decimal point in numeric literal");
        check("1ea", "invalid character 'a' in exponent of numeric literal");
        check("01", "invalid character '1' after top-level value");
        assert_eq!(fault(b"\x9e").unwrap(), "invalid character '\\u009e' looking for beginning of value");
        assert_eq!(fault(b"'").unwrap(), "invalid character '\\'' looking for beginning of value");
        assert_eq!(fault(b"\x01").unwrap(), "invalid character '\\x01' looking for beginning of value");
    }
}
