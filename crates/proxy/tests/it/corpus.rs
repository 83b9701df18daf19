//! Reads `tests/corpus`, whose README says how cases are written.

use std::fs;
use std::path::Path;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Refused(u16),
    Forwarded(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    files.iter().flat_map(|path| parse(&fs::read_to_string(path).unwrap())).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("== ") {
            Some(title) => cases.push(begin(title)),
            None => cases.last_mut().expect("a file begins with a case").bytes.extend(unescape(line)),
        }
    }
    cases
}

fn begin(title: &str) -> Case {
    let words: Vec<_> = title.split(' ').collect();
    let [name, verb, number] = words[..] else { panic!("no title: {title}") };
    let outcome = match verb {
        "refused" => Outcome::Refused(number.parse().unwrap()),
        "forwarded" => Outcome::Forwarded(number.parse().unwrap()),
        other => panic!("no outcome: {other}"),
    };
    Case { name: name.to_owned(), outcome, bytes: Vec::new() }
}

fn unescape(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().expect("something follows a backslash") {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => panic!("no such escape: {}", other as char),
        }
    }
    out
}
