//! The exceptions: rows of rule, path (or the start of one), item and reason, separated by tabs.

use anyhow::{Result, bail};

use super::Problem;

pub(crate) struct Allowed(Vec<Row>);

struct Row {
    line: usize,
    rule: String,
    path: String,
    item: String,
}

impl Allowed {
    /// A row without a reason is an error: an exception says why.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty()) {
            let parts: Vec<&str> = line.split('\t').collect();
            let [rule, path, item, reason] = parts[..] else {
                bail!("allow.tsv:{}: want rule, path, item and reason, separated by tabs", number + 1)
            };
            if reason.trim().is_empty() {
                bail!("allow.tsv:{}: an exception needs a reason", number + 1);
            }
            rows.push(Row { line: number + 1, rule: rule.into(), path: path.into(), item: item.into() });
        }
        Ok(Self(rows))
    }

    /// Takes out what is allowed, and adds the rows that allow nothing.
    pub(crate) fn filter(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let mut used = vec![false; self.0.len()];
        let mut left = Vec::new();
        for problem in problems {
            match self.0.iter().position(|row| row.covers(&problem)) {
                Some(index) => used[index] = true,
                None => left.push(problem),
            }
        }
        let unused = self.0.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row.unused());
        left.extend(unused);
        left
    }
}

impl Row {
    fn covers(&self, problem: &Problem) -> bool {
        let item = match (self.item.parse::<usize>(), problem.item.parse::<usize>()) {
            (Ok(limit), Ok(actual)) => actual <= limit,
            _ => self.item == problem.item,
        };
        self.rule == problem.rule && item && problem.path.starts_with(&self.path)
    }

    fn unused(&self) -> Problem {
        Problem {
            rule: "unused-exception",
            path: "dev/xtask/tidy/allow.tsv".to_owned(),
            line: self.line,
            item: format!("{} {} {}", self.rule, self.path, self.item),
            hint: "nothing needs this row any more: remove it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::brief;
    use super::*;

    fn problem(item: &str) -> Problem {
        Problem { rule: "long-file", path: "crates/a.rs".into(), line: 0, item: item.into(), hint: String::new() }
    }

    #[test]
    fn an_exception_covers_up_to_its_number() {
        let allowed = Allowed::parse("# rows\nlong-file\tcrates/a.rs\t1200\tone table\n").unwrap();
        assert!(allowed.filter(vec![problem("1200")]).is_empty());
        assert_eq!(
            brief(&allowed.filter(vec![problem("1201")])),
            ["long-file crates/a.rs:0 1201", "unused-exception dev/xtask/tidy/allow.tsv:2 long-file crates/a.rs 1200"]
        );
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert!(Allowed::parse("long-file\tcrates/a.rs\t1200\t \n").is_err());
        assert!(Allowed::parse("long-file\tcrates/a.rs\t1200\n").is_err());
    }
}
