//! The list of known differences: rows of request, difference and reason, separated by tabs. `*` stands for anything.
//! It may only shrink: a row that no difference needs is a failure.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

#[derive(Default)]
pub(crate) struct Known(Vec<Row>);

struct Row {
    /// 0 for a row that needs no difference: the real server does not always answer alike.
    line: usize,
    request: String,
    what: String,
}

impl Known {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Adds the rows of a file of what the real server does not always answer alike.
    pub(crate) fn unsettled(&mut self, path: &Path) -> Result<()> {
        let rows = Self::read(path)?.0;
        self.0.extend(rows.into_iter().map(|row| Row { line: 0, ..row }));
        Ok(())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty()) {
            let parts: Vec<&str> = line.split('\t').collect();
            let [request, what, reason] = parts[..] else {
                bail!("line {}: want request, difference and reason, separated by tabs", index + 1)
            };
            if reason.trim().is_empty() {
                bail!("line {}: a known difference needs a reason", index + 1);
            }
            rows.push(Row { line: index + 1, request: request.to_owned(), what: what.to_owned() });
        }
        Ok(Self(rows))
    }

    /// The index of the first row that covers a difference of a request (`category/group/version/kind/step`).
    pub(crate) fn find(&self, request: &str, what: &str) -> Option<usize> {
        self.0.iter().position(|row| matches(&row.request, request) && matches(&row.what, what))
    }

    /// Rows that are not in `used`, for printing.
    pub(crate) fn unused(&self, used: &[usize]) -> Vec<String> {
        let rows = self.0.iter().enumerate().filter(|(index, row)| row.line > 0 && !used.contains(index));
        rows.map(|(_, row)| format!("known.tsv:{}: {} {}", row.line, row.request, row.what)).collect()
    }
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            let ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
            ends.into_iter().any(|at| matches(rest, &left[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("crud/*/get", "crud/apps/v1/Deployment/get"));
        assert!(matches("*", "") && matches("a*", "a") && matches("*a*", "bab"));
        assert!(!matches("crud/*/get", "crud/apps/v1/Deployment/list") && !matches("a", "ab") && !matches("", "a"));
    }

    #[test]
    fn rows_that_nothing_needs_are_named() {
        let known = Known::parse("# comment\ncrud/*\tbody.a\twhy\nlist/*\tcode\twhy\n").unwrap();
        assert_eq!(known.find("crud/x/get", "body.a"), Some(0));
        assert_eq!(known.find("crud/x/get", "body.b"), None);
        assert_eq!(known.unused(&[0]), ["known.tsv:3: list/* code"]);
    }

    #[test]
    fn a_row_needs_a_reason() {
        assert!(Known::parse("a\tb\t\n").is_err());
        assert!(Known::parse("a\tb\n").is_err());
    }
}
