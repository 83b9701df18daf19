//! The unit of systemd, as text.

use std::path::{Path, PathBuf};

use super::place::{CURRENT, JOINING};

/// What is started, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// The verb and its flags.
    pub(super) words: Vec<String>,
    pub(super) data_dir: PathBuf,
}

/// Begins the line that says what is started.
const START: &str = "ExecStart=";
/// Begins the line for us; systemd leaves out what begins with `X-`.
const DATA: &str = "X-DataDirectory=";

impl Unit {
    /// `KillMode=process`: what control has started goes on without it, and ends with the server alone. `Delegate`: control groups of pods are not systemd's to
    /// change, and every controller is there for them. It is ready when it says so; a server that joins may wait long for its
    /// cluster, and is not ended for that.
    pub(super) fn text(&self) -> String {
        let start = line(Path::new(CURRENT), &self.words);
        let data_dir = self.data_dir.display().to_string();
        let end = line(Path::new(CURRENT), &["down", "--with-server", "--data-dir", &data_dir].map(str::to_owned));
        let data_dir = quoted(&data_dir);
        format!(
            "# Written by `corten install`; `corten uninstall` removes it. Changes go into `systemctl edit corten`.
[Unit]
Description=Corten: containers, Services and the Kubernetes API of this server
After=network-online.target nftables.service time-sync.target
Wants=network-online.target
RequiresMountsFor={data_dir}
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-{JOINING}
{START}{start}
ExecStopPost=-{end}
KillMode=process
Delegate=yes
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=1048576
Restart=always
RestartSec=1
TimeoutStartSec=infinity
TimeoutStopSec=30
{DATA}{}

[Install]
WantedBy=multi-user.target
",
            self.data_dir.display()
        )
    }
}

/// A drop-in that has another program started with what the unit says otherwise.
pub(super) fn trial(unit: &str, program: &Path) -> Option<String> {
    let words = start(unit)?.strip_prefix(CURRENT)?;
    Some(format!(
        "# Written by `corten upgrade` while it tries this program; gone with it, and with a reboot.\n[Service]\n{START}\n{START}{}{words}\n",
        program.display()
    ))
}

/// The verb and flags that a unit starts, as they stand there.
pub(super) fn words(unit: &str) -> Option<&str> {
    start(unit)?.split_once(' ').map(|(_, words)| words)
}

pub(super) fn data_dir(unit: &str) -> Option<PathBuf> {
    unit.lines().find_map(|line| line.strip_prefix(DATA)).map(PathBuf::from)
}

fn start(unit: &str) -> Option<&str> {
    unit.lines().find_map(|line| line.strip_prefix(START))
}

fn line(program: &Path, words: &[String]) -> String {
    let words = words.iter().map(|word| quoted(word));
    [program.display().to_string()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as systemd.syntax(7) reads it back: nothing in it is a variable or a specifier.
fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=@,+".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from('"');
    for char in word.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            '%' | '$' => text.extend([char, char]),
            '\n' => text.push_str("\\n"),
            char => text.push(char),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(words: &[&str]) -> String {
        let words = words.iter().map(ToString::to_string).collect();
        Unit { words, data_dir: "/srv/corten".into() }.text()
    }

    #[test]
    fn what_a_unit_starts_is_read_back() {
        let text = unit(&["up", "--data-dir", "/srv/corten", "--http-port", "8080"]);
        assert_eq!(words(&text), Some("up --data-dir /srv/corten --http-port 8080"));
        assert_eq!(data_dir(&text), Some("/srv/corten".into()));
        assert!(
            text.contains("\nExecStart=/usr/local/lib/corten/current up --data-dir /srv/corten --http-port 8080\n")
        );
    }

    #[test]
    fn control_ends_alone_and_comes_back() {
        let text = unit(&["up"]);
        for line in ["Type=notify", "KillMode=process", "Delegate=yes", "Restart=always", "WantedBy=multi-user.target"]
        {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn a_trial_changes_the_program_and_nothing_else() {
        let text = unit(&["up", "--name", "a b"]);
        let drop_in = trial(&text, Path::new("/usr/local/lib/corten/corten-2")).expect("a unit of ours");
        assert!(
            drop_in.ends_with("[Service]\nExecStart=\nExecStart=/usr/local/lib/corten/corten-2 up --name \"a b\"\n")
        );
        assert_eq!(trial("[Service]\nExecStart=/bin/true\n", Path::new("/x")), None);
    }

    #[test]
    fn words_are_quoted_where_systemd_would_read_more_into_them() {
        let check = |word: &str, expect: &str| assert_eq!(quoted(word), expect);
        check("0.0.0.0:6443", "0.0.0.0:6443");
        check("", "\"\"");
        check("a b", "\"a b\"");
        check("50%", "\"50%%\"");
        check("$HOME", "\"$$HOME\"");
        check("a\"\\", "\"a\\\"\\\\\"");
    }
}
