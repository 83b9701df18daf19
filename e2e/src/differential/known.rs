//! The list of known differences: rows of request, difference, how many of them there are at most, and the reason,
//! separated by tabs. `*` stands for anything. It may only shrink: more differences than a row says are a failure, and
//! so is a row that no difference needs.

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
    most: usize,
    reason: String,
}

impl Known {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Puts in front the rows of a file of what the real server does not always answer alike: such a difference uses up
    /// no other row's number.
    pub(crate) fn unsettled(&mut self, path: &Path) -> Result<()> {
        let rows = Self::read(path)?.0;
        self.0.splice(0..0, rows.into_iter().map(|row| Row { line: 0, ..row }));
        Ok(())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty()) {
            let parts: Vec<&str> = line.split('\t').collect();
            let [request, what, most, reason] = parts[..] else {
                bail!("line {}: want request, difference, number and reason, separated by tabs", index + 1)
            };
            if reason.trim().is_empty() {
                bail!("line {}: a known difference needs a reason", index + 1);
            }
            let most = if most == "*" { usize::MAX } else { most.parse()? };
            rows.push(Row {
                line: index + 1,
                request: request.to_owned(),
                what: what.to_owned(),
                most,
                reason: reason.to_owned(),
            });
        }
        Ok(Self(rows))
    }

    /// Whether a row covers one difference more than `before`.
    pub(crate) fn covers(&self, row: usize, before: usize) -> bool {
        before < self.0[row].most
    }

    /// Rows that could say less: fewer differences than they allow. `used` holds one index a difference.
    pub(crate) fn generous(&self, used: &[usize]) -> Vec<String> {
        let count = |index: usize| used.iter().filter(|row| **row == index).count();
        let rows = self.0.iter().enumerate().filter(|(_, row)| row.line > 0 && row.most < usize::MAX);
        let spare = rows.map(|(index, row)| (row, count(index))).filter(|(row, count)| *count > 0 && *count < row.most);
        spare.map(|(row, count)| format!("known.tsv:{}: {} {}: {count}", row.line, row.request, row.what)).collect()
    }

    /// Writes the file anew without what is not needed: rows go, numbers fall, nothing is added.
    pub(crate) fn shrink(&self, path: &Path, used: &[usize]) -> Result<()> {
        let old = fs::read_to_string(path)?;
        let mut text: String =
            old.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for (index, row) in self.0.iter().enumerate().filter(|(_, row)| row.line > 0) {
            let count = used.iter().filter(|used| **used == index).count().min(row.most);
            if count > 0 {
                text.push_str(&format!("{}\t{}\t{count}\t{}\n", row.request, row.what, row.reason));
            }
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
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
        let known = Known::parse("# comment\ncrud/*\tbody.a\t2\twhy\nlist/*\tcode\t*\twhy\n").unwrap();
        assert_eq!(known.find("crud/x/get", "body.a"), Some(0));
        assert_eq!(known.find("crud/x/get", "body.b"), None);
        assert_eq!(known.unused(&[0]), ["known.tsv:3: list/* code"]);
        assert!(known.covers(0, 1) && !known.covers(0, 2) && known.covers(1, 1000));
        assert_eq!(known.generous(&[0]), ["known.tsv:2: crud/* body.a: 1"]);
        assert!(known.generous(&[0, 0, 1]).is_empty());
    }

    #[test]
    fn a_list_shrinks_to_what_is_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# comment\ncrud/*\tbody.a\t5\twhy\nlist/*\tcode\t1\twhy\n").unwrap();
        Known::read(file.path()).unwrap().shrink(file.path(), &[0, 0]).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "# comment\ncrud/*\tbody.a\t2\twhy\n");
    }

    #[test]
    fn a_row_needs_a_reason() {
        assert!(Known::parse("a\tb\t1\t\n").is_err());
        assert!(Known::parse("a\tb\t1\n").is_err());
    }
}
