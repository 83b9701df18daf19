//! What is wrong with an expression, where, in the words that users of Kubernetes know.

use std::fmt;

/// Longer lines are not shown with their complaint.
const SNIPPET_BYTES_MAX: usize = 16_384;
/// More complaints are only counted.
const ISSUES_SHOWN_MAX: usize = 100;

/// One complaint about an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// From 1; 0 where the expression as a whole is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// The text of that line.
    source: String,
}

impl Issue {
    /// A complaint about the character `at` of `source`.
    pub(crate) fn at(source: &str, at: u32, message: impl Into<String>) -> Self {
        let (mut line, mut column, mut text) = (1, 0, source.split('\n'));
        for character in source.chars().take(at as usize) {
            column += 1;
            if character == '\n' {
                line += 1;
                column = 0;
                text.next();
            }
        }
        Self { line, column: column + 1, message: message.into(), source: text.next().unwrap_or_default().to_owned() }
    }

    /// A complaint about the whole expression.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into(), source: String::new() }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(out, "ERROR: <input>:-1:0: {}", self.message);
        }
        write!(out, "ERROR: <input>:{}:{}: {}", self.line, self.column, self.message)?;
        if self.source.len() > SNIPPET_BYTES_MAX {
            return Ok(());
        }
        let wide = |character: char| character.len_utf8() > 1;
        write!(out, "\n | {}\n | ", self.source.replace('\t', " "))?;
        for character in self.source.chars().take(self.column - 1) {
            out.write_str(if wide(character) { "\u{ff0e}" } else { "." })?;
        }
        out.write_str(if self.source.chars().nth(self.column - 1).is_some_and(wide) { "\u{ff3e}" } else { "^" })
    }
}

/// All complaints about one expression, as Kubernetes tells them.
pub fn describe(issues: &[Issue]) -> String {
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|issue| (issue.line, issue.column));
    let mut lines: Vec<String> = sorted.iter().take(ISSUES_SHOWN_MAX).map(|issue| issue.to_string()).collect();
    if issues.len() > ISSUES_SHOWN_MAX {
        lines.push(format!("{} more errors were truncated", issues.len() - ISSUES_SHOWN_MAX));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_points_at_its_place() {
        let issue = Issue::at("true &&\nself.x", 12, "undefined field 'x'");
        assert_eq!((issue.line, issue.column), (2, 5));
        assert_eq!(issue.to_string(), "ERROR: <input>:2:5: undefined field 'x'\n | self.x\n | ....^");
    }
}
