//! The mail server of the tests as a child process.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use corten_apimachinery::json;
use corten_apimachinery::value::Value;

/// Ends with the test.
pub(crate) struct Mailbox {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) port: u16,
}

impl Mailbox {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mailbox.py");
        // Debian's own Python: another one does not know its packages.
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.arg(script).args(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next().expect("apt-get install -y python3-aiosmtpd").expect("text").parse().expect("a port");
        Self { child, lines, port }
    }

    /// The next message that was taken.
    pub(crate) fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a message").expect("text");
        json::parse(line.as_bytes()).expect("JSON").value
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
    }
}
