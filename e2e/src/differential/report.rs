//! What was found: counted by category, and each difference once with an example.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use anyhow::Result;

use super::Arguments;
use super::compare::Difference;
use super::known::Known;
use super::scenario::{Scenario, Step};
use crate::http::Request;

/// Groups of differences that are printed without `--all`.
const GROUPS_MAX: usize = 60;

#[derive(Default)]
pub(crate) struct Report {
    /// Requests sent, by category.
    sent: BTreeMap<&'static str, usize>,
    found: Vec<Found>,
}

struct Found {
    category: &'static str,
    /// `category/group/version/kind/step`.
    request: String,
    /// Without the kind, to group by.
    step: String,
    /// The request line and the start of the body, to repeat it by hand.
    line: String,
    difference: Difference,
}

impl Report {
    pub(crate) fn add(&mut self, scenario: &Scenario, step: &Step, request: &Request, differences: Vec<Difference>) {
        *self.sent.entry(scenario.category).or_default() += 1;
        for difference in differences {
            self.found.push(Found {
                category: scenario.category,
                request: format!("{}/{}", scenario.name(), step.what),
                step: format!("{}/*/{}", scenario.category, step.what),
                line: format!("{} {} {}", request.method, request.path, request.body.replace(['\n', '\t'], " ")),
                difference,
            });
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.sent.values().sum()
    }

    /// Prints table and differences. Fails on an unknown one, and in a whole run on a row that nothing needs.
    pub(crate) fn print(&self, known: &Known, arguments: &Arguments) -> Result<ExitCode> {
        let rows = self.rows(known);
        let new: Vec<&Found> = self.found.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(f, _)| f).collect();
        if let Some(path) = &arguments.write {
            fs::write(path, self.tsv(&rows))?;
        }
        print!("{}", self.table(&rows));
        print!("{}", examples(&new, arguments.all));
        let used: Vec<usize> = rows.iter().flatten().copied().collect();
        let whole = arguments.filter.is_empty() && !arguments.real_twice;
        if arguments.shrink && whole {
            known.shrink(&Arguments::known(), &used)?;
        }
        let unused = if whole { known.unused(&used) } else { Vec::new() };
        for row in &unused {
            println!("no difference needs this row any more, remove it: {row}");
        }
        let generous = if whole { known.generous(&used) } else { Vec::new() };
        for row in &generous {
            println!("fewer differences than this row allows, lower it: {row}");
        }
        let clean = new.is_empty() && unused.is_empty();
        println!("{}", if clean { "no unknown difference" } else { "FAILED" });
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The row that covers each difference, as long as it covers more.
    fn rows(&self, known: &Known) -> Vec<Option<usize>> {
        let mut covered: BTreeMap<usize, usize> = BTreeMap::new();
        let mut row = |found: &Found| {
            let row = known.find(&found.request, &found.difference.what)?;
            let before = covered.entry(row).or_default();
            *before += 1;
            known.covers(row, *before - 1).then_some(row)
        };
        self.found.iter().map(&mut row).collect()
    }

    fn table(&self, rows: &[Option<usize>]) -> String {
        let mut text = format!("{:<14} {:>9} {:>8} {:>9}\n", "category", "requests", "known", "unknown");
        for (category, sent) in &self.sent {
            let of = |known: bool| {
                let found = self.found.iter().zip(rows);
                found.filter(|(found, row)| found.category == *category && row.is_some() == known).count()
            };
            writeln!(text, "{category:<14} {sent:>9} {:>8} {:>9}", of(true), of(false)).expect("a string takes it all");
        }
        text
    }

    fn tsv(&self, rows: &[Option<usize>]) -> String {
        let mut text = String::new();
        for (found, row) in self.found.iter().zip(rows) {
            let Difference { what, left, right } = &found.difference;
            let state = if row.is_some() { "known" } else { "new" };
            writeln!(text, "{state}\t{}\t{what}\t{left}\t{right}\t{}", found.request, found.line)
                .expect("a string takes it all");
        }
        text
    }
}

/// Differences grouped by step and field, the most frequent first, each with one example.
fn examples(new: &[&Found], all: bool) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&Found>> = BTreeMap::new();
    for found in new {
        groups.entry((&found.step, &found.difference.what)).or_default().push(found);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let mut text = String::new();
    let hidden = if all { 0 } else { groups.len().saturating_sub(GROUPS_MAX) };
    groups.truncate(groups.len() - hidden);
    for ((step, what), members) in groups {
        writeln!(text, "\n{} x {step}  {what}", members.len()).expect("a string takes it all");
        for found in members.iter().take(if all { usize::MAX } else { 1 }) {
            let Difference { left, right, .. } = &found.difference;
            let line: String = found.line.chars().take(400).collect();
            writeln!(text, "  {}\n    {line}\n    kubernetes: {left}\n    corten:     {right}", found.request)
                .expect("a string takes it all");
        }
    }
    if hidden > 0 {
        writeln!(text, "\nand {hidden} more groups: --all, --filter, or --write").expect("a string takes it all");
    }
    text
}
