//! A reader of text protobuf, as far as the conformance tests need it.

#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A number, a word or the bytes of a string.
    Scalar(Vec<u8>),
    Message(Vec<(String, Node)>),
}

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.fields().iter().find(|(each, _)| each == name).map(|(_, node)| node)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.fields().iter().filter(move |(each, _)| each == name).map(|(_, node)| node)
    }

    fn fields(&self) -> &[(String, Node)] {
        match self {
            Self::Message(fields) => fields,
            Self::Scalar(_) => &[],
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Scalar(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Message(_) => panic!("a message is no text"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Scalar(bytes) => bytes,
            Self::Message(_) => panic!("a message is no text"),
        }
    }

    /// The only field, with its name.
    pub(crate) fn only(&self) -> Option<(&str, &Node)> {
        match self {
            Self::Message(fields) => fields.first().map(|(name, node)| (name.as_str(), node)),
            Self::Scalar(_) => None,
        }
    }
}

pub(crate) fn read(text: &str) -> Node {
    let mut reader = Reader { rest: text.as_bytes() };
    reader.message(None)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            while matches!(self.rest.first(), Some(b' ' | b'\n' | b'\t' | b'\r' | b',' | b';')) {
                self.rest = &self.rest[1..];
            }
            if self.rest.first() != Some(&b'#') {
                return;
            }
            let end = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.rest.first().copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn word(&mut self) -> String {
        self.skip();
        let end = self
            .rest
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && !b"_.+-/[]".contains(byte))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        assert!(!word.is_empty(), "a word at {}", String::from_utf8_lossy(&rest[..rest.len().min(60)]));
        String::from_utf8(word.to_vec()).expect("words are ASCII")
    }

    fn message(&mut self, end: Option<u8>) -> Node {
        let mut fields = Vec::new();
        loop {
            match (self.peek(), end) {
                (None, _) => break,
                (Some(byte), Some(end)) if byte == end => {
                    self.rest = &self.rest[1..];
                    break;
                }
                _ => {}
            }
            let name = self.word();
            let colon = self.accept(b':');
            if self.accept(b'{') {
                fields.push((name, self.message(Some(b'}'))));
            } else if colon && self.accept(b'[') {
                while !self.accept(b']') {
                    let item = if self.accept(b'{') { self.message(Some(b'}')) } else { self.scalar() };
                    fields.push((name.clone(), item));
                }
            } else {
                fields.push((name, self.scalar()));
            }
        }
        Node::Message(fields)
    }

    fn scalar(&mut self) -> Node {
        let mut bytes = Vec::new();
        while let Some(quote @ (b'"' | b'\'')) = self.peek() {
            self.rest = &self.rest[1..];
            self.string(quote, &mut bytes);
            if !matches!(self.peek(), Some(b'"' | b'\'')) {
                return Node::Scalar(bytes);
            }
        }
        if bytes.is_empty() { Node::Scalar(self.word().into_bytes()) } else { Node::Scalar(bytes) }
    }

    fn string(&mut self, quote: u8, bytes: &mut Vec<u8>) {
        loop {
            let byte = self.next();
            match byte {
                _ if byte == quote => return,
                b'\\' => self.escape(bytes),
                other => bytes.push(other),
            }
        }
    }

    fn next(&mut self) -> u8 {
        let byte = *self.rest.first().expect("the string ends");
        self.rest = &self.rest[1..];
        byte
    }

    fn number(&mut self, base: u32, digits: usize) -> u32 {
        let mut value = 0;
        for _ in 0..digits {
            let Some(digit) = self.rest.first().and_then(|byte| (*byte as char).to_digit(base)) else { break };
            value = value * base + digit;
            self.rest = &self.rest[1..];
        }
        value
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) {
        match self.next() {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'v' => bytes.push(11),
            b'x' => bytes.push(self.number(16, 2) as u8),
            b'u' => bytes.extend(char::from_u32(self.number(16, 4)).expect("a character").to_string().bytes()),
            b'U' => bytes.extend(char::from_u32(self.number(16, 8)).expect("a character").to_string().bytes()),
            digit @ b'0'..=b'7' => {
                let more = self.rest.iter().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let rest = self.number(8, more);
                bytes.push((u32::from(digit - b'0') * 8_u32.pow(more as u32) + rest) as u8);
            }
            other => bytes.push(other),
        }
    }
}
