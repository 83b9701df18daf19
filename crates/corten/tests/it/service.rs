//! An installation on a server that is a folder, with a systemd that remembers what it was asked. The real one is met by the
//! end-to-end tests.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Server;

const CORTEN: &str = env!("CARGO_BIN_EXE_corten");

/// Stands in for systemctl.
const SYSTEMCTL: &str = include_str!("service/systemctl");

/// A server of a test.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir_all(host.at("run/systemd/system")).expect("made");
        host.tool("systemctl", SYSTEMCTL);
        host.tool("journalctl", "#!/bin/sh\necho the last words\n");
        host
    }

    fn tool(&self, name: &str, text: &str) {
        let path = self.at("tools").join(name);
        fs::create_dir_all(self.at("tools")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(CORTEN);
        let path = format!("{}:{}", self.at("tools").display(), std::env::var("PATH").expect("set"));
        command.args(words).env("CORTEN_ROOT", self.0.path()).env("PATH", path);
        command
    }

    /// `install` on ports that nobody has, and without a part in the kernel.
    fn install(&self, more: &[&str]) -> Output {
        let data = self.at("data").display().to_string();
        let words =
            ["install", "--network", "none", "--listen", "127.0.0.1:0", "--http-port", "0", "--https-port", "0"];
        self.command(&[&words[..], &["--data-dir", &data], more].concat()).output().expect("it runs")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// Every file and link of the server but the tools and the notes of its systemd.
    fn files(&self) -> Vec<String> {
        let found = Command::new("find").arg(".").args(["-not", "-type", "d"]).current_dir(self.0.path()).output();
        let text = String::from_utf8(found.expect("find").stdout).expect("text");
        let own = ["./tools/", "./calls", "./hangup", "./count", "./state", "./started", "./ends", "./new"];
        let mut files: Vec<String> =
            text.lines().filter(|file| !own.iter().any(|own| file.starts_with(own))).map(str::to_owned).collect();
        files.sort();
        files
    }

    /// This program with a few bytes more, which nobody reads.
    fn another(&self, end: &str) -> PathBuf {
        let path = self.at("new");
        fs::copy(CORTEN, &path).expect("copied");
        let mut file = fs::OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(end.as_bytes()).expect("written");
        path
    }

    fn upgrade(&self, file: &Path) -> Output {
        self.command(&["upgrade"]).arg(file).output().expect("it runs")
    }

    /// The name of the program in use.
    fn current(&self) -> String {
        let link = fs::read_link(self.at("usr/local/lib/corten/current")).expect("a link");
        link.display().to_string()
    }

    /// What the service was started with last.
    fn started(&self) -> String {
        let started = self.read("started");
        Path::new(started.lines().last().unwrap_or_default()).file_name().unwrap_or_default().display().to_string()
    }
}

#[track_caller]
fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn an_installation_comes_and_goes_whole() {
    let host = Host::new();
    let text = said(host.install(&["--name", "one"]));
    assert!(text.contains("\nready, with its data in "), "{text}");
    let unit = host.read("etc/systemd/system/corten.service");
    let expected = format!(
        "ExecStart=/usr/local/lib/corten/current up --data-dir {} --name one --http",
        host.at("data").display()
    );
    assert!(unit.contains(&expected), "{unit}");
    assert_eq!(
        fs::canonicalize(host.at("usr/local/bin/corten")).expect("a link"),
        fs::canonicalize(host.at("usr/local/lib/corten").join(host.current())).expect("there")
    );
    let calls = host.read("calls");
    for call in ["daemon-reload", "enable corten.service", "start --no-block corten.service"] {
        assert!(calls.lines().any(|line| line == call), "{call} is not in {calls}");
    }
    let before = host.files();
    let again = said(host.install(&["--name", "one"]));
    assert!(again.contains("it runs") && host.files() == before, "{again}");
    let other = refused(host.install(&["--name", "two"]));
    assert!(
        other.contains("installed with other flags")
            && other.contains("--name one")
            && other.contains("corten uninstall"),
        "{other}"
    );
    assert_eq!(host.files(), before, "a refusal changes nothing");

    fs::create_dir(host.at("data")).expect("made");
    let text = said(host.command(&["uninstall"]).output().expect("it runs"));
    assert!(text.contains("corten purge --data-dir ") && host.files().is_empty(), "{text}{:?}", host.files());
    assert!(host.read("calls").lines().any(|line| line == "disable --now corten.service"));
    let text = said(host.command(&["uninstall"]).output().expect("it runs"));
    assert!(text.contains("there is nothing to undo"), "{text}");
}

#[test]
fn what_was_begun_is_completed_or_undone() {
    let host = Host::new();
    let programs = host.at("usr/local/lib/corten");
    fs::create_dir_all(&programs).expect("made");
    fs::write(programs.join("corten-0.1.0-00000000.new"), "half").expect("written");
    assert!(!said(host.command(&["uninstall"]).output().expect("it runs")).contains("nothing"));
    assert!(!programs.exists() && host.files().is_empty());
}

#[test]
fn a_service_that_ends_at_once_is_taken_back() {
    let host = Host::new();
    fs::write(host.at("ends"), "").expect("written");
    let text = refused(host.install(&[]));
    assert!(text.contains("the service does not start, and was taken back; it said last:\nthe last words"), "{text}");
    assert!(host.files().is_empty(), "{:?}", host.files());
}

#[test]
fn a_command_of_somebody_else_stays() {
    let host = Host::new();
    fs::create_dir_all(host.at("usr/local/bin")).expect("made");
    fs::write(host.at("usr/local/bin/corten"), "mine").expect("written");
    let text = said(host.install(&[]));
    assert!(text.contains("is something else, and stays"), "{text}");
    said(host.command(&["uninstall"]).output().expect("it runs"));
    assert_eq!(host.files(), ["./usr/local/bin/corten"]);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let host = Host::new();
    let check = |output: Output, expected: &str| {
        let text = refused(output);
        assert!(text.contains(expected), "{text}");
        assert!(host.files().is_empty(), "{:?}", host.files());
    };
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = held.local_addr().expect("bound").to_string();
    let words = ["install", "--network", "none", "--http-port", "0", "--https-port", "0", "--listen", &address];
    check(host.command(&words).output().expect("it runs"), "is in use by ");
    check(host.install(&["--demo"]), "install without --demo");
    let text = refused(host.upgrade(Path::new(CORTEN)));
    assert!(text.contains("corten is not installed on this server; run `corten install` first"), "{text}");

    let nobody = tempfile::tempdir().expect("a directory");
    let program = nobody.path().join("corten");
    fs::copy(CORTEN, &program).expect("copied");
    fs::set_permissions(nobody.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let mut command = Command::new(&program);
    check(command.arg("install").uid(65534).gid(65534).output().expect("it runs"), "run it as root");

    fs::remove_dir_all(host.at("run")).expect("removed");
    check(host.install(&[]), "this server is not run by systemd");
}

#[test]
fn data_that_a_foreground_start_has_are_not_taken() {
    let host = Host::new();
    let server = Server::start(&host.at("data"));
    let text = refused(host.install(&[]));
    assert!(text.contains("is in use by another corten (process "), "{text}");
    assert_eq!(server.stop(), Some(0));
    crate::process::purge(&host.at("data"));
}

#[test]
fn a_program_gives_way_to_another_and_comes_back() {
    let host = Host::new();
    said(host.install(&[]));
    let first = host.current();
    assert!(said(host.upgrade(Path::new(CORTEN))).contains("runs already"));

    let text = said(host.upgrade(&host.another("GOOD")));
    let second = host.current();
    assert!(second != first && host.started() == second && text.contains("ready after "), "{text}");
    assert!(!host.at("run/systemd/system/corten.service.d").exists(), "the next start is an ordinary one");
    let other = refused(host.install(&[]));
    assert!(other.contains(&format!("{second} is installed; `corten upgrade ")), "{other}");

    let text = refused(host.upgrade(&host.another("BAD")));
    assert!(
        text.contains("it ends instead of becoming ready") && text.contains(&format!("{second} runs again")),
        "{text}"
    );
    assert!(text.ends_with("the last words\n"), "{text}");
    assert_eq!((host.current(), host.started()), (second.clone(), second.clone()));
    let late = host.command(&["upgrade", "--timeout", "1s"]).arg(host.another("LATE")).output().expect("it runs");
    let text = refused(late);
    assert!(text.contains("it is not ready after 1s (still at it)"), "{text}");
    assert_eq!((host.current(), host.started()), (second.clone(), second));
    let programs: Vec<String> = host.files().into_iter().filter(|file| file.contains("/corten-")).collect();
    assert_eq!(programs.len(), 2, "the one in use and the one before it: {programs:?}");
    assert!(!host.at("run/systemd/system/corten.service.d").exists());
}

#[test]
fn an_upgrade_whose_terminal_is_gone_ends_as_a_whole() {
    let host = Host::new();
    said(host.install(&[]));
    let first = host.current();
    fs::write(host.at("hangup"), "").expect("written");
    for (end, is_used) in [("GOOD", true), ("BAD", false)] {
        let before = host.current();
        let output = host.command(&["upgrade"]).arg(host.another(end)).process_group(0).output().expect("it runs");
        let code = output.status.code();
        assert_eq!(code, Some(i32::from(!is_used)), "{end}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((host.current() != before, host.started()), (is_used, host.current()), "{end}");
        assert!(!host.at("run/systemd/system/corten.service.d").exists(), "{end}: the next start is an ordinary one");
    }
    assert_ne!(host.current(), first);
}

#[test]
fn what_is_no_corten_for_this_server_is_not_tried() {
    let host = Host::new();
    said(host.install(&[]));
    let (before, started) = (host.files(), host.read("started"));
    let check = |file: &Path, expected: &str| {
        let text = refused(host.upgrade(file));
        assert!(text.contains(expected), "{text}");
        assert_eq!((host.files(), host.read("started")), (before.clone(), started.clone()), "nothing was touched");
    };
    let file = host.at("new");
    fs::write(&file, "#!/bin/sh\necho corten 9.9\n").expect("written");
    check(&file, "is no program of this kind of server: it is no ELF file");
    check(&host.at("nowhere"), "cannot be read as a program");
    check(Path::new("/bin/false"), "cannot be used: `version --output json` ends with ");
    let mut bytes = fs::read(CORTEN).expect("read");
    bytes[18..20].copy_from_slice(&22u16.to_le_bytes());
    fs::write(&file, bytes).expect("written");
    check(&file, "is made for machine 22, and this server is ");
}

#[test]
fn data_of_a_newer_layout_keep_their_program() {
    let host = Host::new();
    said(host.install(&[]));
    fs::create_dir(host.at("data")).expect("made");
    fs::write(host.at("data/VERSION"), "99\n").expect("written");
    let before = host.current();
    let text = refused(host.upgrade(&host.another("GOOD")));
    assert!(text.contains("was written by a newer corten (layout 99, corten 0.1.0 knows 1)"), "{text}");
    assert_eq!((host.current(), host.started()), (before.clone(), before));
}
