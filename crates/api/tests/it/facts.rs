//! The committed tables are what dev/facts writes: nobody edits them by hand, and a new module version shows.

use std::process::Command;

#[test]
fn the_tables_are_what_the_generator_writes() {
    let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/facts");
    let how = "this test runs dev/facts: install Go 1.26 or newer; it fetches the modules by itself";
    let run = Command::new("go").args(["run", ".", "-check"]).current_dir(facts).output();
    let run = run.unwrap_or_else(|error| panic!("cannot run go ({error}); {how}"));
    assert!(run.status.success(), "{}; {how}", String::from_utf8_lossy(&run.stderr));
}
