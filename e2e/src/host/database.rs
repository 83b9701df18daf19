//! The two databases of `examples/` on the server: what they have acknowledged is there after a reboot, and after the power was cut
//! while rows were written.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::machine::Machine;
use crate::process::{Ended, wait};
use crate::spine::node::LIMIT;

const NAMESPACE: &str = "database";
/// Both, and what is in them.
const DATABASES: [(&str, u32, &str); 2] = [("orders", 1000, "1000|500500\n"), ("people", 10, "10|55\n")];
const ROWS: &str = "SELECT count(*), sum(n) FROM rows";

/// One row after the other, each told when it is there for good.
const WRITER: &str = r#"i=0; while sql "INSERT INTO told VALUES ($i) RETURNING n"; do i=$((i + 1)); done"#;

/// Rows that have to be there before the power is cut.
const TOLD_MIN: usize = 3;

/// Both run, and have rows.
pub(super) fn fill(machine: &Machine) -> Result<()> {
    fs::write(machine.file("database.yaml"), include_str!("../../../examples/database/database.yaml"))?;
    machine.kubectl(&["apply", "-f", "/corten/database.yaml"])?;
    for (name, rows, expect) in DATABASES {
        answers(machine, name, "SELECT 1", "1\n")?;
        let fill = format!("CREATE TABLE rows (n int); INSERT INTO rows SELECT generate_series(1, {rows})");
        sql(machine, name, &fill)?;
        answers(machine, name, ROWS, expect)?;
    }
    Ok(())
}

/// Each by itself has what it had.
pub(super) fn kept(machine: &Machine) -> Result<()> {
    DATABASES.into_iter().try_for_each(|(name, _, rows)| answers(machine, name, ROWS, rows))
}

/// Somebody who writes until the power is cut, and what he was told.
pub(super) struct Writer {
    process: Ended,
    told: PathBuf,
}

impl Writer {
    /// Some rows are there, and more are on their way.
    pub(super) fn start(machine: &Machine) -> Result<Self> {
        sql(machine, "orders", "CREATE TABLE told (n int PRIMARY KEY)")?;
        let told = machine.file("told");
        let words = ["kubectl", "-n", NAMESPACE, "exec", "orders-0", "--", "sh", "-c", WRITER];
        let mut command = machine.command(&words)?;
        let command = command.stdin(Stdio::null()).stdout(File::create(&told)?).stderr(Stdio::null());
        let mut writer = Self { process: Ended::new(command.spawn().context("nsenter (util-linux)")?), told };
        wait(LIMIT, || {
            ensure!(writer.process.status()?.is_none(), "the writer has ended");
            Ok((writer.told()?.len() >= TOLD_MIN).then_some(()))
        })
        .context("nothing is written")?;
        Ok(writer)
    }

    /// Whole lines of what it was told.
    fn told(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.told)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    /// After the power was cut: what it was told is there. So may be a row more, of which it was not told in time.
    pub(super) fn kept(mut self, machine: &Machine) -> Result<()> {
        self.process.end()?;
        let told = self.told()?;
        let there = sql(machine, "orders", "SELECT n FROM told ORDER BY n")?;
        let there: Vec<&str> = there.lines().collect();
        println!("        {} rows were told when the power was cut, {} are there", told.len(), there.len());
        ensure!(
            there.starts_with(&told.iter().map(String::as_str).collect::<Vec<_>>()),
            "told {told:?}, there {there:?}"
        );
        Ok(())
    }
}

/// With all that they have.
pub(super) fn end(machine: &Machine) -> Result<()> {
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    machine.kubectl(&["delete", "namespace", NAMESPACE, &limit]).map(drop)
}

/// Until it says so: it may be starting.
fn answers(machine: &Machine, name: &str, text: &str, expect: &str) -> Result<()> {
    let mut last = Ok(String::new());
    let right = wait(LIMIT, || {
        last = sql(machine, name, text);
        Ok(last.as_ref().is_ok_and(|said| said == expect).then_some(()))
    });
    right.with_context(|| format!("{name} says last to `{text}`: {last:?}"))
}

fn sql(machine: &Machine, name: &str, text: &str) -> Result<String> {
    machine.kubectl(&["-n", NAMESPACE, "exec", &format!("{name}-0"), "--", "sql", text])
}
